// Package archive packs what goes to Lambda as the CDK packs it, and tells how large it is. The same files give the same bytes, wherever and whenever they
// were made: entries come in the order of their names, dates are fixed, and of permissions only whether a file may be executed is kept.
package archive

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Bootstrap is the name of the program in a function's folder, the only one that the runtime looks for.
const Bootstrap = "bootstrap"

// epoch is the date of all entries, the first that a zip file can hold.
var epoch = time.Date(1980, time.January, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant in all but form

// Artifact is a function as it goes to Lambda.
type Artifact struct {
	Name          string
	ProgramBytes  int64
	ZipBytes      int64
	ProgramSHA256 [sha256.Size]byte
	ZipSHA256     [sha256.Size]byte
}

// List describes each function that lies in a folder of its own below folder, in the order of their names.
func List(folder string) ([]Artifact, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var all []Artifact
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		a, err := Describe(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("function %s: %w", e.Name(), err)
		}
		all = append(all, a)
	}
	return all, nil
}

// Describe describes the function in a folder, which must hold its program.
func Describe(folder string) (Artifact, error) {
	program, err := os.ReadFile(filepath.Join(folder, Bootstrap)) //nolint:gosec // the caller names it
	if err != nil {
		return Artifact{}, fmt.Errorf("there is no program (make build makes it): %w", err)
	}
	var packed bytes.Buffer
	if err := Zip(&packed, folder); err != nil {
		return Artifact{}, err
	}
	return Artifact{
		Name: filepath.Base(folder), ProgramBytes: int64(len(program)), ZipBytes: int64(packed.Len()),
		ProgramSHA256: sha256.Sum256(program), ZipSHA256: sha256.Sum256(packed.Bytes()),
	}, nil
}

// Zip writes all files below folder as a zip file.
func Zip(out io.Writer, folder string) error {
	z := zip.NewWriter(out)
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		return add(z, filepath.ToSlash(name), path, info.Mode())
	})
	if err != nil {
		return err
	}
	return z.Close()
}

func add(z *zip.Writer, name, path string, mode fs.FileMode) error {
	header := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: epoch}
	header.SetMode(0o644)
	if mode&0o100 != 0 {
		header.SetMode(0o755)
	}
	w, err := z.CreateHeader(header)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(path) //nolint:gosec // it lies in the caller's folder
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}
