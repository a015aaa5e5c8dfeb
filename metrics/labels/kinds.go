package labels

// Kinds are the labels of requests, in the order of their numbers. Bare heartbeats
// have one of their own.
var Kinds = [...]string{"AppendEntries", "Heartbeat", "RequestVote", "RequestPreVote", "InstallSnapshot", "TimeoutNow"}

// AppendEntries is the number of that label.
const AppendEntries = 0

// Kind returns the number of a request's label. It panics with a kind that does
// not exist.
func Kind(kind string, heartbeat bool) int {
	if heartbeat {
		kind = "Heartbeat"
	}
	for i, label := range Kinds {
		if label == kind {
			return i
		}
	}
	panic("labels: no request has the kind " + kind)
}
