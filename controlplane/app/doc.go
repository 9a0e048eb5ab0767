// Package app puts the control plane together. Serve reads from top to bottom: what is built from what, and what runs.
// The other files are the subcommands and the narrow adapters between packages that do not know each other.
package app
