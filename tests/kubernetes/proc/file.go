package proc

import "os"

// WriteWhole puts a file at the path, whole or not at all: a running program may read it at any
// moment.
func WriteWhole(path string, text []byte) error {
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
