package app

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strconv"
	"time"

	"keyward.dev/controlplane/internal/backup"
	"keyward.dev/controlplane/internal/store"
	"keyward.dev/shared/settings"
)

const (
	outputText = "text"
	outputJSON = "json"
)

func outputFlag(fs *flag.FlagSet, output *string) {
	fs.StringVar(output, "output", outputText, "`form` of what is printed: text or json")
}

func checkOutput(faults *settings.Faults, output string) {
	if output != outputText && output != outputJSON {
		faults.Addf("output", "must be text or json")
	}
}

// summary says what a backup holds, and what became of it.
type summary struct {
	File string    `json:"file"`
	ID   string    `json:"id"`
	At   time.Time `json:"at"`
	// Program made the backup.
	Program  string         `json:"program"`
	KEK      string         `json:"kek"`
	Recovery string         `json:"recovery_key"`
	Schema   int            `json:"schema"`
	Rows     int64          `json:"rows"`
	Bytes    int64          `json:"bytes"`
	Groups   []groupSummary `json:"groups"`
	Tables   []tableSummary `json:"tables"`
	// Valid are the tokens that are good again after a restore.
	Valid *validTokens `json:"valid_tokens,omitempty"`
}

type groupSummary struct {
	Name           string `json:"name"`
	UID            string `json:"uid"`
	Epoch          string `json:"epoch"`
	Revision       int64  `json:"revision"`
	Resources      int64  `json:"resources"`
	Digest         string `json:"digest"`
	KeyringVersion int32  `json:"keyring_version"`
	KEK            string `json:"kek"`
	// NewEpoch and Rewrapped are what a restore did.
	NewEpoch  string `json:"new_epoch,omitempty"`
	Rewrapped bool   `json:"rewrapped,omitempty"`
}

type tableSummary struct {
	Name   string `json:"name"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

func newSummary(h backup.Header, m backup.Manifest) summary {
	s := summary{ID: h.ID, At: h.At, Program: h.Program, KEK: h.KEK, Recovery: h.Recovery, Schema: m.Schema}
	for _, g := range m.Groups {
		s.Groups = append(s.Groups, groupSummary{
			Name: g.Name, UID: g.UID, Epoch: strconv.FormatUint(g.Epoch, 10), Revision: g.Revision, Resources: g.Resources,
			Digest: hex.EncodeToString(g.Digest), KeyringVersion: g.KeyringVersion, KEK: g.KEK,
		})
	}
	for _, t := range m.Tables {
		s.Tables = append(s.Tables, tableSummary{Name: t.Name, Rows: t.Rows, Bytes: t.Bytes, SHA256: hex.EncodeToString(t.SHA256)})
		s.Rows += t.Rows
		s.Bytes += t.Bytes
	}
	return s
}

func (s summary) print(out io.Writer, form string) error {
	if form == outputJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	fmt.Fprintf(out, "%s: backup %s of %s, schema %d, %d rows in %d tables, %s\n", s.File, s.ID, s.At.Format(time.RFC3339), s.Schema,
		s.Rows, len(s.Tables), size(s.Bytes))
	fmt.Fprintf(out, "opens with key-encryption key %s, or with recovery key %s\n", s.KEK, s.Recovery)
	for _, g := range s.Groups {
		fmt.Fprintln(out, g.told())
	}
	if s.Valid != nil {
		s.Valid.print(out, s.At)
	}
	return nil
}

func (g groupSummary) told() string {
	line := fmt.Sprintf("%s: revision %d, %d resources", g.Name, g.Revision, g.Resources)
	if g.Name == store.SystemGroup {
		line = g.Name
	}
	line += fmt.Sprintf(", keyring version %d", g.KeyringVersion)
	if g.Rewrapped {
		line += " under the key-encryption key of now"
	}
	if g.NewEpoch != "" {
		line += ", in a new epoch"
	}
	return line
}

// validTokens are tokens that a restore has brought back, whatever became of them since the backup.
type validTokens struct {
	Admin []tokenSummary `json:"admin"`
	Join  []tokenSummary `json:"join"`
}

type tokenSummary struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Group string `json:"group,omitempty"`
}

func (v *validTokens) print(out io.Writer, at time.Time) {
	fmt.Fprintf(out, "these are valid as they were at %s; delete again which were deleted since, and revoke gateways again:\n", at.Format(time.RFC3339))
	for _, t := range v.Admin {
		fmt.Fprintf(out, "  admin token %s %q\n", t.ID, t.Name)
	}
	for _, t := range v.Join {
		fmt.Fprintf(out, "  join token %s of group %s %q\n", t.ID, t.Group, t.Name)
	}
}
