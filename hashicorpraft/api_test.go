package hashicorpraft

import (
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/stretchr/testify/require"
)

const (
	corePath    = "github.com/hashicorp/raft"
	wirePath    = "github.com/raftwire/raftwire"
	adapterPath = wirePath + "/hashicorpraft"
)

// coreFiles are the files of hashicorp/raft whose every exported identifier
// raftwire has as well.
var coreFiles = []string{"commands.go", "inmem_transport.go", "net_transport.go", "tcp_transport.go", "transport.go"}

// coreNames are those that raftwire has from other files.
var coreNames = []string{
	"ServerID", "ServerAddress",
	"ProtocolVersion", "ProtocolVersionMin", "ProtocolVersionMax",
	"SnapshotVersion", "SnapshotVersionMin", "SnapshotVersionMax",
	"Log", "LogType", "LogCommand", "LogNoop", "LogAddPeerDeprecated", "LogRemovePeerDeprecated", "LogBarrier", "LogConfiguration",
	"Future", "ErrPipelineReplicationNotSupported",
}

// sentinels are the errors that both packages have.
var sentinels = map[string][2]error{
	"ErrTransportShutdown":               {raft.ErrTransportShutdown, raftwire.ErrTransportShutdown},
	"ErrPipelineShutdown":                {raft.ErrPipelineShutdown, raftwire.ErrPipelineShutdown},
	"ErrPipelineReplicationNotSupported": {raft.ErrPipelineReplicationNotSupported, raftwire.ErrPipelineReplicationNotSupported},
}

// Code written against hashicorp/raft's transport layer compiles after
// changing the import: every identifier is there, and means the same.
func TestRaftwireHasTheAPIOfHashicorpRaft(t *testing.T) {
	core, wire, files := load(t)
	names := transportLayer(core, files)
	require.Subset(t, names, []string{"NetworkTransport", "NewInmemTransport", "AppendEntriesRequest", "TCPStreamLayer", "AppendPipeline"})
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			ours := wire.Scope().Lookup(name)
			require.NotNil(t, ours, "raftwire has no %s", name)
			compareObjects(t, core.Scope().Lookup(name), ours)
		})
	}
}

func TestLogTypesHaveTheSameNames(t *testing.T) {
	for i := range 8 {
		require.Equal(t, raft.LogType(i).String(), raftwire.LogType(i).String())
	}
}

// load returns the two packages as the compiler sees them, and the file set of
// their positions.
func load(t *testing.T) (core, wire *types.Package, files *token.FileSet) {
	t.Helper()
	exports := exportData(t)
	files = token.NewFileSet()
	imp := importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	core, err := imp.Import(corePath)
	require.NoError(t, err)
	wire, err = imp.Import(wirePath)
	require.NoError(t, err)
	return core, wire, files
}

// exportData returns the compiler's export files, by import path.
func exportData(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-export", "-f", "{{.ImportPath}} {{.Export}}", corePath, wirePath).Output()
	require.NoError(t, err)
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[path] = file
	}
	return exports
}

// transportLayer returns the names to compare.
func transportLayer(core *types.Package, files *token.FileSet) []string {
	names := slices.Clone(coreNames)
	for _, name := range core.Scope().Names() {
		object := core.Scope().Lookup(name)
		file := filepath.Base(files.Position(object.Pos()).Filename)
		if object.Exported() && slices.Contains(coreFiles, file) {
			names = append(names, name)
		}
	}
	return names
}

func compareObjects(t *testing.T, theirs, ours types.Object) {
	t.Helper()
	require.IsType(t, theirs, ours)
	switch theirs := theirs.(type) {
	case *types.Const:
		require.Equal(t, describe(theirs.Type()), describe(ours.Type()))
		require.Equal(t, theirs.Val().ExactString(), ours.(*types.Const).Val().ExactString())
	case *types.Var:
		require.Equal(t, describe(theirs.Type()), describe(ours.Type()))
		pair, known := sentinels[theirs.Name()]
		require.True(t, known, "add %s to sentinels", theirs.Name())
		require.EqualError(t, pair[1], pair[0].Error())
	case *types.Func:
		require.Equal(t, describe(theirs.Type()), describe(ours.Type()))
	case *types.TypeName:
		compareTypes(t, theirs, ours.(*types.TypeName))
	default:
		t.Fatalf("cannot compare %T", theirs)
	}
}

func compareTypes(t *testing.T, theirs, ours *types.TypeName) {
	t.Helper()
	require.Equal(t, theirs.IsAlias(), ours.IsAlias())
	switch underlying := theirs.Type().Underlying().(type) {
	case *types.Interface:
		require.Equal(t, methods(theirs.Type()), methods(ours.Type()))
		return // an interface with more methods would break who implements it
	case *types.Struct:
		require.IsType(t, underlying, ours.Type().Underlying())
		compareFields(t, ours.Name(), fields(underlying), fields(ours.Type().Underlying().(*types.Struct)))
	default:
		require.Equal(t, describe(underlying), describe(ours.Type().Underlying()))
	}
	require.Subset(t, methods(types.NewPointer(ours.Type())), methods(types.NewPointer(theirs.Type())))
	require.Subset(t, methods(ours.Type()), methods(theirs.Type()))
}

// compareFields wants the same fields in the same order; a configuration may
// have more at the end.
func compareFields(t *testing.T, name string, theirs, ours []string) {
	t.Helper()
	if strings.HasSuffix(name, "Config") && len(ours) > len(theirs) {
		ours = ours[:len(theirs)]
	}
	require.Equal(t, theirs, ours)
}

// fields returns the exported fields of a struct in order.
func fields(s *types.Struct) (list []string) {
	for i := range s.NumFields() {
		if field := s.Field(i); field.Exported() {
			list = append(list, fmt.Sprintf("%s %s embedded=%t tag=%q", field.Name(), describe(field.Type()), field.Embedded(), s.Tag(i)))
		}
	}
	return list
}

// methods returns the exported methods of a type, sorted.
func methods(typ types.Type) (list []string) {
	set := types.NewMethodSet(typ)
	for i := range set.Len() {
		if method := set.At(i).Obj(); method.Exported() {
			list = append(list, method.Name()+describe(method.Type()))
		}
	}
	return list
}

// describe prints a type in the same words for both packages, without the
// names of parameters.
func describe(typ types.Type) string {
	if signature, ok := typ.(*types.Signature); ok {
		return fmt.Sprintf("func(%s variadic=%t) (%s)", describeTuple(signature.Params()), signature.Variadic(), describeTuple(signature.Results()))
	}
	return types.TypeString(typ, func(p *types.Package) string {
		if p.Path() == corePath || p.Path() == wirePath {
			return "raft"
		}
		return p.Path()
	})
}

func describeTuple(tuple *types.Tuple) string {
	var list []string
	for i := range tuple.Len() {
		list = append(list, describe(tuple.At(i).Type()))
	}
	return strings.Join(list, ", ")
}
