package sock

import "net"

// RemoteAddress is for logs and limits; not every stream layer knows one.
func RemoteAddress(raw net.Conn) string {
	if address := AddressOf(raw.RemoteAddr()); address != "" {
		return address
	}
	return "unknown"
}

// AddressOf returns an address of somebody else's, which may be nil: "" then.
func AddressOf(addr net.Addr) string {
	if IsNil(addr) {
		return ""
	}
	return addr.String()
}
