package disk

import (
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// served is a file system whose operations meet the trouble of the moment, and are then done.
// Closing a file does not: no disk has to be asked for that.
type served struct {
	fuse.RawFileSystem

	mu      sync.Mutex
	trouble Trouble
	changed chan struct{} // closed when there is another trouble
	met     int
}

func (s *served) set(t Trouble) (met int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	met, s.met = s.met, 0
	if s.changed != nil {
		close(s.changed)
	}
	s.trouble, s.changed = t, make(chan struct{})
	return met
}

// after the trouble of the moment, which a signal does not shorten, an operation is done.
func (s *served) after(kind Fail, operation func() fuse.Status) fuse.Status {
	s.mu.Lock()
	t, changed := s.trouble, s.changed
	fails := t.Fail == Everything || t.Fail != Nothing && t.Fail == kind
	if fails || t.Delay+t.Hang > 0 {
		s.met++
	}
	s.mu.Unlock()
	if d := t.Delay + t.Hang; d > 0 {
		select {
		case <-time.After(d):
		case <-changed:
		}
	}
	if fails {
		return fuse.EIO
	}
	return operation()
}

func (s *served) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	return s.after(Nothing, func() fuse.Status { return s.RawFileSystem.Lookup(cancel, in, name, out) })
}

func (s *served) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return s.after(Nothing, func() fuse.Status { return s.RawFileSystem.GetAttr(cancel, in, out) })
}

func (s *served) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	return s.after(Nothing, func() fuse.Status { return s.RawFileSystem.Statx(cancel, in, out) })
}

func (s *served) Access(cancel <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	return s.after(Nothing, func() fuse.Status { return s.RawFileSystem.Access(cancel, in) })
}

func (s *served) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return s.after(Nothing, func() fuse.Status { return s.RawFileSystem.StatFs(cancel, in, out) })
}

func (s *served) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return s.after(Nothing, func() fuse.Status {
		status := s.RawFileSystem.Open(cancel, in, out)
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO
		return status
	})
}

func (s *served) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return s.after(Nothing, func() fuse.Status { return s.RawFileSystem.OpenDir(cancel, in, out) })
}

func (s *served) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return s.after(Reads, func() fuse.Status { return s.RawFileSystem.ReadDir(cancel, in, out) })
}

func (s *served) Readlink(cancel <-chan struct{}, in *fuse.InHeader) (text []byte, status fuse.Status) {
	status = s.after(Reads, func() fuse.Status {
		text, status = s.RawFileSystem.Readlink(cancel, in)
		return status
	})
	return text, status
}

func (s *served) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (result fuse.ReadResult, status fuse.Status) {
	status = s.after(Reads, func() fuse.Status {
		result, status = s.RawFileSystem.Read(cancel, in, buf)
		return status
	})
	return result, status
}

func (s *served) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	return s.after(Writes, func() fuse.Status {
		status := s.RawFileSystem.Create(cancel, in, name, out)
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO
		return status
	})
}

func (s *served) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (n uint32, status fuse.Status) {
	status = s.after(Writes, func() fuse.Status {
		n, status = s.RawFileSystem.Write(cancel, in, data)
		return status
	})
	return n, status
}

func (s *served) Writev(cancel <-chan struct{}, in *fuse.WriteIn, data [][]byte) (n uint32, status fuse.Status) {
	status = s.after(Writes, func() fuse.Status {
		n, status = s.RawFileSystem.Writev(cancel, in, data)
		return status
	})
	return n, status
}

func (s *served) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Fsync(cancel, in) })
}

func (s *served) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.FsyncDir(cancel, in) })
}

func (s *served) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Fallocate(cancel, in) })
}

func (s *served) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.SetAttr(cancel, in, out) })
}

func (s *served) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Mknod(cancel, in, name, out) })
}

func (s *served) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Mkdir(cancel, in, name, out) })
}

func (s *served) Unlink(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Unlink(cancel, in, name) })
}

func (s *served) Rmdir(cancel <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Rmdir(cancel, in, name) })
}

func (s *served) Rename(cancel <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Rename(cancel, in, from, to) })
}

func (s *served) Symlink(cancel <-chan struct{}, in *fuse.InHeader, to, name string, out *fuse.EntryOut) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Symlink(cancel, in, to, name, out) })
}

func (s *served) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	return s.after(Writes, func() fuse.Status { return s.RawFileSystem.Link(cancel, in, name, out) })
}

func (s *served) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	return s.after(Writes, func() fuse.Status {
		status := s.RawFileSystem.Tmpfile(cancel, in, out)
		out.OpenFlags |= fuse.FOPEN_DIRECT_IO
		return status
	})
}

func (s *served) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (n uint32, status fuse.Status) {
	status = s.after(Writes, func() fuse.Status {
		n, status = s.RawFileSystem.CopyFileRange(cancel, in)
		return status
	})
	return n, status
}
