package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// newFlagSet returns flags for parseFlags, which reports errors and help.
func newFlagSet(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	return flags
}

// parseFlags parses the flags of a command that takes nothing else.
func parseFlags(flags *flag.FlagSet, args []string, about string, help io.Writer) error {
	if err := parseAll(flags, args, about, help); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: everything is set by flags (-h lists them)", flags.Arg(0))
	}
	return nil
}

// parseAll leaves arguments that are no flags to the caller. Help, which
// begins with about, goes to help.
func parseAll(flags *flag.FlagSet, args []string, about string, help io.Writer) error {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(help, about)
		flags.SetOutput(help)
		flags.PrintDefaults()
		return err
	case err != nil:
		return fmt.Errorf("%w (-h lists the flags)", err)
	}
	return nil
}

// listFlag defines a flag that takes a comma-separated list.
func listFlag[T fmt.Stringer](flags *flag.FlagSet, name, usage string, list *[]T, parse func(string) (T, error)) {
	names := make([]string, len(*list))
	for i, item := range *list {
		names[i] = item.String()
	}
	usage = fmt.Sprintf("%s (default \"%s\")", usage, strings.Join(names, ","))
	flags.Func(name, usage, func(s string) (err error) {
		*list, err = parseList(s, parse)
		return err
	})
}

// parseList parses a comma-separated list and refuses duplicates.
func parseList[T fmt.Stringer](s string, parse func(string) (T, error)) ([]T, error) {
	var list []T
	seen := make(map[string]bool)
	for _, word := range strings.Split(s, ",") {
		item, err := parse(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		if seen[item.String()] {
			return nil, fmt.Errorf("%s is named twice", item)
		}
		seen[item.String()] = true
		list = append(list, item)
	}
	return list, nil
}
