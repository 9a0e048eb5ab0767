// Package expression compiles the conditions of the authorize policy: CEL expressions over a request and who sends it.
// Admission compiles them to refuse what gateways could not evaluate, gateways compile them to evaluate them, so what is
// admitted compiles.
//
// An expression sees the variables listed here and nothing else. It is type-checked, bounded in size, in nesting and in what
// it may cost, and it can neither compile regular expressions nor look up time zones while a request waits.
package expression
