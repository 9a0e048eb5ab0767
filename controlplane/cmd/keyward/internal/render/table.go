package render

import (
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"keyward.dev/controlplane/cmd/keyward/internal/terminal"
)

// Cell is one cell of a table.
type Cell struct {
	Text   string
	Colour terminal.Colour
}

// Grid is a table with a head. Without rows nothing of it is printed.
type Grid struct {
	io   *terminal.Streams
	head []string
	rows [][]Cell
}

// NewGrid makes a table with these columns.
func NewGrid(io *terminal.Streams, head ...string) *Grid {
	return &Grid{io: io, head: head}
}

// Add adds a row of plain cells.
func (g *Grid) Add(texts ...string) {
	row := make([]Cell, len(texts))
	for i, t := range texts {
		row[i] = Cell{Text: t}
	}
	g.rows = append(g.rows, row)
}

// AddCells adds a row.
func (g *Grid) AddCells(cells ...Cell) { g.rows = append(g.rows, cells) }

// Print writes the table: columns two blanks apart, as wide as their widest cell.
func (g *Grid) Print() error {
	if len(g.rows) == 0 {
		return nil
	}
	widths := make([]int, len(g.head))
	for i, h := range g.head {
		widths[i] = utf8.RuneCountInString(h)
	}
	for _, row := range g.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.Text))
		}
	}
	var b strings.Builder
	g.line(&b, widths, len(g.head), func(i int) Cell { return Cell{Text: g.head[i], Colour: terminal.Faint} })
	for _, row := range g.rows {
		g.line(&b, widths, len(row), func(i int) Cell { return row[i] })
	}
	_, err := io.WriteString(g.io.Out, b.String())
	return err
}

func (g *Grid) line(b *strings.Builder, widths []int, n int, cell func(int) Cell) {
	last := n - 1
	for last > 0 && cell(last).Text == "" {
		last--
	}
	for i := range last + 1 {
		c := cell(i)
		b.WriteString(g.io.Paint(c.Colour, c.Text))
		if i < last {
			b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.Text)+2))
		}
	}
	b.WriteByte('\n')
}

// Time prints a time for people: "-" if it is not set.
func Time(t *timestamppb.Timestamp) string {
	if t == nil {
		return "-"
	}
	return t.AsTime().UTC().Format(time.DateTime) + "Z"
}

// Short prints the first characters of a long hexadecimal word.
func Short(s string) string {
	const enough = 12
	if len(s) <= enough {
		return s
	}
	return s[:enough]
}

// Or answers s, or instead if s is empty.
func Or(s, instead string) string {
	if s == "" {
		return instead
	}
	return s
}
