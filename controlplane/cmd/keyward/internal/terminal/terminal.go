// Package terminal is where the command line reads and writes: three streams and what is known about them (is it a
// terminal, may there be colour). Commands never touch os.Stdout; tests give buffers. Data goes to Out, talk to Err.
package terminal

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// Streams are the standard streams of one run of a command.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	// InTTY says that a person can be asked, OutTTY and ErrTTY that one looks at the stream.
	InTTY  bool
	OutTTY bool
	ErrTTY bool
	// Colour says that escape sequences are welcome on Err and Out where they are terminals.
	Colour bool
}

// System answers the process's own streams. NO_COLOR and TERM=dumb switch colour off.
func System() *Streams {
	return &Streams{
		In:     os.Stdin,
		Out:    os.Stdout,
		Err:    os.Stderr,
		InTTY:  isTerminal(os.Stdin),
		OutTTY: isTerminal(os.Stdout),
		ErrTTY: isTerminal(os.Stderr),
		Colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

// Buffers answers streams over memory, for tests, with what is written to them.
func Buffers(in string) (s *Streams, out, err *bytes.Buffer) {
	out, err = new(bytes.Buffer), new(bytes.Buffer)
	return &Streams{In: bytes.NewBufferString(in), Out: out, Err: err}, out, err
}

// Say tells the person something: a line on Err.
func (s *Streams) Say(format string, args ...any) {
	fmt.Fprintf(s.Err, format+"\n", args...)
}

// Status shows a passing line on Err if it is a terminal; the next Status or Done replaces it.
func (s *Streams) Status(format string, args ...any) {
	if s.ErrTTY {
		fmt.Fprintf(s.Err, "\r\x1b[K"+format, args...)
	}
}

// Done wipes the line of Status.
func (s *Streams) Done() {
	if s.ErrTTY {
		fmt.Fprint(s.Err, "\r\x1b[K")
	}
}

// Paint colours text for Out.
func (s *Streams) Paint(c Colour, text string) string {
	if !s.Colour || !s.OutTTY || c == Plain {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// Colour is an SGR parameter.
type Colour string

// Colours in use.
const (
	Plain  Colour = ""
	Red    Colour = "31"
	Green  Colour = "32"
	Yellow Colour = "33"
	Faint  Colour = "2"
)

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	// /dev/null is a character device too.
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
