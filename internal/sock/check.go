package sock

import (
	"errors"
	"net"
	"reflect"
)

// errNoConn is what dialling or accepting fails with if code of somebody else's
// returns neither a connection nor an error.
var errNoConn = errors.New("there is neither a connection nor an error: the function that dials or accepts must return one")

// CheckConn passes on what code of somebody else's has dialled or accepted. The
// connection is not nil if there is no error, and it is never a nil pointer in an
// interface.
func CheckConn(conn net.Conn, err error) (net.Conn, error) {
	if !IsNil(conn) {
		return conn, err
	}
	if err == nil {
		err = errNoConn
	}
	return nil, err
}

// IsNil reports whether v is nil, or a nil pointer: tls.Dial returns one beside its
// error, and what is returned as an interface then is not nil.
func IsNil(v any) bool {
	pointer := reflect.ValueOf(v)
	return v == nil || pointer.Kind() == reflect.Pointer && pointer.IsNil()
}
