// Package arch holds the rules about the source tree as tests: who may import whom, what the products link, how packages
// are called, what no file may contain. Every rule says why it is there; whoever has to break one changes the rule, with
// the reason, in the same commit. It reads sources and asks the go command; it starts no process of ours.
package arch
