package match

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Regex compiles an expression of a document, anchored at both ends, and returns with it the literal that every match
// begins with.
func Regex(expr string) (re *regexp.Regexp, literal string, err error) {
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, "", fmt.Errorf("parse expression: %w", err)
	}
	re, err = regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil {
		return nil, "", fmt.Errorf("compile expression: %w", err)
	}
	literal, _ = literalPrefix(tree.Simplify())
	return re, literal, nil
}

// literalPrefix returns the literal that re begins with and whether that is all of re.
func literalPrefix(re *syntax.Regexp) (prefix string, whole bool) {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpBeginLine:
		return "", true
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return "", false
		}
		return string(re.Rune), true
	case syntax.OpCapture:
		return literalPrefix(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			p, all := literalPrefix(sub)
			prefix += p
			if !all {
				return prefix, false
			}
		}
		return prefix, true
	}
	return "", false
}
