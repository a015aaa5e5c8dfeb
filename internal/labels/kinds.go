package labels

// Kinds are the labels of requests, in the order of their numbers. Bare heartbeats
// have one of their own.
var Kinds = [...]string{"AppendEntries", "Heartbeat", "RequestVote", "RequestPreVote", "InstallSnapshot", "TimeoutNow"}

// AppendEntries is the number of that label.
const AppendEntries = 0

// Kind returns the number of a request's label. It panics with a kind that does
// not exist.
func Kind(kind string, heartbeat bool) int {
	switch kind {
	case "AppendEntries":
		if heartbeat {
			return 1
		}
		return AppendEntries
	case "RequestVote":
		return 2
	case "RequestPreVote":
		return 3
	case "InstallSnapshot":
		return 4
	case "TimeoutNow":
		return 5
	}
	panic("labels: no request has the kind " + kind)
}
