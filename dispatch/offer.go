package dispatch

// Offer sends v on to. It blocks until v was taken, and then returns true, or
// until stop is closed. With a nil stop it does not block.
func Offer[T any](to chan<- T, v T, stop <-chan struct{}) bool {
	if stop == nil {
		select {
		case to <- v:
			return true
		default:
			return false
		}
	}
	select {
	case to <- v:
		return true
	case <-stop:
		return false
	}
}
