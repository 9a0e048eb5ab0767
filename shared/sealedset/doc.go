// Package sealedset is how a set of configuration lies in a file that is not trusted: its records, sealed in chunks under a
// key that is made for this one file and wrapped to somebody's public key, behind a header in the clear that everything is
// bound to. A gateway's sealed cache and the fallback bundle are both made of these parts; each has its own header, and says
// for itself who may have written it and how old it may be. The package reads and writes streams, knows no files, and folds
// nothing.
package sealedset
