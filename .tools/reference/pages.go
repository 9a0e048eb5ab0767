package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"keyward.dev/proto/descriptors"
	"keyward.dev/shared/catalog"
)

// What is between these lines of a policy's page is written anew each time.
const (
	opening = "<!-- generated from the contract -->\n"
	closing = "<!-- end of what is generated -->\n"
)

// pages puts the parameters of every policy on its page, all or none of them.
func pages(dir string, cat *catalog.Catalog, comments descriptors.Comments) error {
	done := map[string][]byte{}
	var missing error
	for _, p := range cat.Policies() {
		path := filepath.Join(dir, p.Type+".md")
		page, err := os.ReadFile(path)
		if err != nil {
			missing = errors.Join(missing, err)
			continue
		}
		if done[path], err = splice(page, parameters(p, cat, comments)); err != nil {
			missing = errors.Join(missing, fmt.Errorf("%s: %w", path, err))
		}
	}
	if missing != nil {
		return missing
	}
	for path, page := range done {
		if err := os.WriteFile(path, page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// splice puts text between the marks.
func splice(page, text []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(page, []byte(opening))
	_, after, closed := bytes.Cut(rest, []byte(closing))
	if !ok || !closed {
		return nil, fmt.Errorf("the page lacks the lines %q and %q around its parameters", opening, closing)
	}
	return bytes.Join([][]byte{before, text, after}, nil), nil
}

// parameters is what the contract says of a policy and of the credentials of its type, with the marks around it.
func parameters(p *catalog.Policy, cat *catalog.Catalog, comments descriptors.Comments) []byte {
	w := newWriter(comments)
	w.out.WriteString(opening)
	w.line("## Parameters")
	w.line("")
	w.line("Phase: %s. On several levels: %s. Bound on: %s.", word(p.Phase), combine(p.Combine), sites(p.BindableOn))
	w.line("")
	w.fields(p.Config.Descriptor())
	for _, c := range cat.Credentials() {
		if c.Type == p.Type {
			w.section("### Credentials", c.Config.Descriptor())
		}
	}
	w.parts()
	w.line("")
	w.out.WriteString(closing)
	return w.out.Bytes()
}
