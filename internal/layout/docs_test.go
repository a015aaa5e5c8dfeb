package layout

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// withoutExample are exported types that need no Example, each with the reason.
var withoutExample = map[string]string{
	"raftwire.Future":            "is the part of AppendFuture that returns the error",
	"raftwire.HostStats":         "is a part of Stats, whose Example prints it",
	"raftwire.PeerStats":         "is a part of Stats, whose Example prints it",
	"raftwire.PipelineStats":     "is a part of Stats",
	"raftwire.ServeObserver":     "is for adapters that time requests; hashicorpraft has the one that there is",
	"raftwire.WaitObserver":      "is for adapters; package dispatch implements it",
	"raftwire.WithRPCHeader":     "is implemented by the messages, and nobody asks for it",
	"faultnet.Conn":              "is the net.Conn of a Host, used as any net.Conn",
	"labels.Slot":                "comes from Calls, whose Example keeps a counter in one",
	"labels.PeerFigures":         "is what a Tally returns, whose Example prints it",
	"prometheus.StatsSource":     "is implemented by the transports, for NewCollector",
	"otel.StatsSource":           "is implemented by the transports, for Observe",
	"raftwire.WithPeers":         "is a part of LoopbackTransport",
	"raftwire.LoopbackTransport": "is implemented by InmemTransport, whose Example connects two",
}

// An Example shows a type if it is named for it, names it, or calls its
// constructor. pkg.go.dev shows the Examples of a package beside its types.
func TestExamples_ShowEveryExportedType(t *testing.T) {
	var types, listed []string
	for _, p := range documented(t) {
		if !p.public() {
			continue
		}
		shown := p.shown()
		for _, declared := range p.types() {
			name := p.Name + "." + declared.Name
			types = append(types, name)
			isShown := shown[declared.Name] || shown["New"+declared.Name] ||
				slices.ContainsFunc(declared.Funcs, func(f *doc.Func) bool { return shown[f.Name] })
			if _, excepted := withoutExample[name]; excepted {
				listed = append(listed, name)
				if isShown {
					t.Errorf("%s has an Example: take it off the list of those without", name)
				}
			} else if !isShown {
				t.Errorf("%s has no Example in its package: write one, or say in withoutExample why not", name)
			}
		}
	}
	t.Logf("%d types, %d need no Example", len(types), len(listed))
	require.ElementsMatch(t, listed, slices.Collect(maps.Keys(withoutExample)), "withoutExample names types that do not exist")
}

// go/doc leaves a link as it is, brackets included, if it does not know the name.
func TestDocLinks_LeadSomewhere(t *testing.T) {
	all := documented(t)
	links := 0
	for _, p := range all {
		for _, text := range p.comments() {
			for _, link := range p.links(text) {
				links++
				if err := link.check(all); err != nil {
					first, _, _ := strings.Cut(text, "\n")
					t.Errorf("%s: %v, in the comment that begins: %s", p.ImportPath, err, first)
				}
			}
		}
	}
	t.Logf("%d links", links)
	require.NotZero(t, links)
}

// documentedPackage is a package of this repository with its documentation, test
// files included.
type documentedPackage struct {
	*doc.Package
	imports map[string]string // by the name that a file of the package has for it
	files   []*ast.File       // those without tests
}

// documented returns every package of the repository that is not a program.
func documented(t *testing.T) (packages []*documentedPackage) {
	t.Helper()
	top := filepath.Join("..", "..")
	err := filepath.WalkDir(top, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		if name := entry.Name(); name == "testdata" || strings.HasPrefix(name, ".") && name != ".." {
			return fs.SkipDir
		}
		found, err := build.ImportDir(dir, 0)
		if err != nil || found.Name == "main" || len(found.GoFiles) == 0 {
			return nil // no Go files, or tests only
		}
		relative, err := filepath.Rel(top, dir)
		require.NoError(t, err)
		packages = append(packages, document(t, found, path.Join(root, filepath.ToSlash(relative))))
		return nil
	})
	require.NoError(t, err)
	return packages
}

func document(t *testing.T, found *build.Package, importPath string) *documentedPackage {
	t.Helper()
	positions := token.NewFileSet()
	p := &documentedPackage{imports: make(map[string]string)}
	var all []*ast.File
	for _, name := range slices.Concat(found.GoFiles, found.TestGoFiles, found.XTestGoFiles) {
		file, err := parser.ParseFile(positions, filepath.Join(found.Dir, name), nil, parser.ParseComments)
		require.NoError(t, err)
		all = append(all, file)
		if slices.Contains(found.GoFiles, name) {
			p.files = append(p.files, file)
			maps.Copy(p.imports, importsOf(file))
		}
	}
	var err error
	p.Package, err = doc.NewFromFiles(positions, all, importPath, doc.PreserveAST)
	require.NoError(t, err)
	return p
}

// importsOf returns the import paths of a file by the names that it uses.
func importsOf(file *ast.File) map[string]string {
	imports := make(map[string]string)
	for _, spec := range file.Imports {
		importPath, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(importPath)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imports[name] = importPath
	}
	return imports
}

func (p *documentedPackage) public() bool { return !strings.Contains(p.ImportPath+"/", "/internal/") }

// types returns the exported structs and interfaces.
func (p *documentedPackage) types() (types []*doc.Type) {
	for _, declared := range p.Types {
		for _, spec := range declared.Decl.Specs {
			switch spec.(*ast.TypeSpec).Type.(type) {
			case *ast.StructType, *ast.InterfaceType:
				types = append(types, declared)
			}
		}
	}
	return types
}

// shown returns the names of the package that its Examples have in their name or
// code, as far as pkg.go.dev shows it.
func (p *documentedPackage) shown() map[string]bool {
	shown := make(map[string]bool)
	for _, example := range p.examples() {
		name, _, _ := strings.Cut(example.Name, "_")
		shown[name] = true
		ast.Inspect(example.Code, func(node ast.Node) bool {
			if selector, ok := node.(*ast.SelectorExpr); ok && p.isName(selector.X) {
				shown[selector.Sel.Name] = true
			}
			return true
		})
	}
	return shown
}

// isName reports whether x is this package in one of its Examples. A few import it
// under another name, which ends in the package's.
func (p *documentedPackage) isName(x ast.Expr) bool {
	name, ok := x.(*ast.Ident)
	return ok && (name.Name == p.Name || name.Name == "raftwire"+strings.TrimSuffix(p.Name, "etheus"))
}

func (p *documentedPackage) examples() (examples []*doc.Example) {
	examples = append(examples, p.Examples...)
	for _, f := range p.Funcs {
		examples = append(examples, f.Examples...)
	}
	for _, declared := range p.Types {
		examples = append(examples, declared.Examples...)
		for _, f := range slices.Concat(declared.Funcs, declared.Methods) {
			examples = append(examples, f.Examples...)
		}
	}
	return examples
}

// comments returns the texts of all comments that document something, fields and
// the methods of interfaces included.
func (p *documentedPackage) comments() (texts []string) {
	add := func(groups ...*ast.CommentGroup) {
		for _, group := range groups {
			if group != nil {
				texts = append(texts, group.Text())
			}
		}
	}
	for _, file := range p.files {
		add(file.Doc)
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.FuncDecl:
				add(node.Doc)
				return false
			case *ast.GenDecl:
				add(node.Doc)
			case *ast.TypeSpec:
				add(node.Doc, node.Comment)
			case *ast.ValueSpec:
				add(node.Doc, node.Comment)
			case *ast.Field:
				add(node.Doc, node.Comment)
			}
			return true
		})
	}
	return texts
}

// docLink is a name in brackets.
type docLink struct {
	unknown    string // the text, if go/doc does not take it for a link
	importPath string
	name       string // of a type, function, variable or constant; or ""
	member     string // of the type; or ""
}

var bracketed = regexp.MustCompile(`\[\*?((?:[a-z][a-z0-9./-]*\.)?[A-Z][A-Za-z0-9]*(?:\.[A-Z][A-Za-z0-9]*)?)\]`)

func (p *documentedPackage) links(text string) (links []docLink) {
	linker := comment.Parser{
		LookupPackage: func(name string) (string, bool) {
			importPath, ok := p.imports[name]
			return importPath, ok
		},
		LookupSym: func(string, string) bool { return true },
	}
	walkText(linker.Parse(text), func(part comment.Text) {
		switch part := part.(type) {
		case *comment.DocLink:
			name, member := part.Name, ""
			if part.Recv != "" {
				name, member = part.Recv, part.Name
			}
			importPath := part.ImportPath
			if importPath == "" {
				importPath = p.ImportPath
			}
			links = append(links, docLink{importPath: importPath, name: strings.TrimPrefix(name, "*"), member: member})
		case comment.Plain:
			for _, match := range bracketed.FindAllString(string(part), -1) {
				links = append(links, docLink{unknown: match})
			}
		}
	})
	return links
}

// walkText calls f with each piece of text in a comment, but for code.
func walkText(parsed *comment.Doc, f func(comment.Text)) {
	visit := func(parts []comment.Text) {
		for _, part := range parts {
			f(part)
		}
	}
	var blocks func([]comment.Block)
	blocks = func(all []comment.Block) {
		for _, block := range all {
			switch block := block.(type) {
			case *comment.Paragraph:
				visit(block.Text)
			case *comment.Heading:
				visit(block.Text)
			case *comment.List:
				for _, item := range block.Items {
					blocks(item.Content)
				}
			}
		}
	}
	blocks(parsed.Content)
}

// check returns an error if the link leads nowhere. Packages of other modules
// are not looked at.
func (l docLink) check(all []*documentedPackage) error {
	if l.unknown != "" {
		return fmt.Errorf("%s is not a name that this package knows", l.unknown)
	}
	at := slices.IndexFunc(all, func(p *documentedPackage) bool { return p.ImportPath == l.importPath })
	if at < 0 || l.name == "" {
		return nil
	}
	if !all[at].declares(l.name, l.member) {
		return fmt.Errorf("%s has no %s", l.importPath, strings.TrimSuffix(l.name+"."+l.member, "."))
	}
	return nil
}

// declares reports whether the package has an exported name, and its type that
// method or field. pkg.go.dev has a place for each.
func (p *documentedPackage) declares(name, member string) bool {
	for _, declared := range p.Types {
		if declared.Name == name && (member == "" || hasMember(declared, member)) {
			return true
		}
	}
	if member != "" {
		return false
	}
	for _, values := range slices.Concat(p.Consts, p.Vars) {
		if slices.Contains(values.Names, name) {
			return true
		}
	}
	for _, declared := range p.Types {
		for _, values := range slices.Concat(declared.Consts, declared.Vars) {
			if slices.Contains(values.Names, name) {
				return true
			}
		}
		if slices.ContainsFunc(declared.Funcs, func(f *doc.Func) bool { return f.Name == name }) {
			return true
		}
	}
	return slices.ContainsFunc(p.Funcs, func(f *doc.Func) bool { return f.Name == name })
}

func hasMember(declared *doc.Type, member string) bool {
	if slices.ContainsFunc(declared.Methods, func(f *doc.Func) bool { return f.Name == member }) {
		return true
	}
	found := false
	ast.Inspect(declared.Decl, func(node ast.Node) bool {
		if field, ok := node.(*ast.Field); ok {
			found = found || slices.ContainsFunc(field.Names, func(name *ast.Ident) bool { return name.Name == member })
		}
		return !found
	})
	return found
}
