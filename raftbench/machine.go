package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// A Machine is where and with what a report was made.
type Machine struct {
	CPU       string            `json:"cpu"`
	Cores     int               `json:"cores"` // that the process may use
	OS        string            `json:"os"`
	Arch      string            `json:"arch"`
	Go        string            `json:"go"`
	Date      time.Time         `json:"date"`
	Libraries map[string]string `json:"libraries"` // module to version
}

func thisMachine() Machine {
	return Machine{
		CPU:       cpuModel(),
		Cores:     runtime.GOMAXPROCS(0),
		OS:        runtime.GOOS,
		Arch:      runtime.GOARCH,
		Go:        runtime.Version(),
		Date:      time.Now().UTC().Truncate(time.Second),
		Libraries: libraries(),
	}
}

// String returns the machine on one line.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %s/%s, %s, %s", m.CPU, m.Cores, m.OS, m.Arch, m.Go, m.Date.Format("2006-01-02 15:04 MST"))
}

// cpuModel asks the system for the name of the processor.
func cpuModel() string {
	switch runtime.GOOS {
	case "linux":
		info, _ := os.ReadFile("/proc/cpuinfo")
		return modelName(string(info))
	case "darwin":
		name, _ := exec.Command("sysctl", "-n", "machdep.cpu.brand_string").Output()
		return orUnknown(string(name))
	}
	return orUnknown(os.Getenv("PROCESSOR_IDENTIFIER")) // Windows
}

// modelName finds the name in the form of /proc/cpuinfo.
func modelName(info string) string {
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "model name" {
			return orUnknown(value)
		}
	}
	return orUnknown("")
}

func orUnknown(name string) string {
	if name = strings.TrimSpace(name); name != "" {
		return name
	}
	return "unknown CPU"
}

// libraries returns the versions of what is measured.
func libraries() map[string]string {
	versions := make(map[string]string)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return versions
	}
	for _, module := range info.Deps {
		switch module.Path {
		case "github.com/hashicorp/raft", "github.com/hashicorp/go-msgpack/v2":
			versions[module.Path] = module.Version
		}
	}
	return versions
}
