//go:build hashicorpmetrics

package hashicorpraft

func registryOfCore() globalRegistry { return hashicorpRegistry }
