// Package checks has tests only. They read what operators copy with the libraries of
// the programs that load it: the dashboard, the alert rules, and the files to deploy
// kvnode. They also compare docs/operations.md with the code. It is a module of its
// own, because those libraries need more than users of raftwire should get.
package checks
