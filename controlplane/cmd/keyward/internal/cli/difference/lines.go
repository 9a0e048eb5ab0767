package difference

import "slices"

import "google.golang.org/protobuf/reflect/protoreflect"

// serverFields are set by the server on every write and say nothing about the difference.
func serverFields() []protoreflect.Name {
	return []protoreflect.Name{"uid", "revision", "etag", "created_at", "updated_at"}
}

// around is how many unchanged lines are shown before and after a change.
const around = 3

// compare answers the lines that differ, marked + and -, with a few unchanged ones around them and "…" where more were
// left out; nothing if there is no difference.
func compare(before, after []string) []string {
	all := edits(before, after)
	keep := make([]bool, len(all))
	changed := false
	for i, l := range all {
		if l[0] == ' ' {
			continue
		}
		changed = true
		for j := max(0, i-around); j <= min(len(all)-1, i+around); j++ {
			keep[j] = true
		}
	}
	if !changed {
		return nil
	}
	var out []string
	for i, l := range all {
		switch {
		case keep[i]:
			out = append(out, l)
		case i == 0 || keep[i-1]:
			out = append(out, " …")
		}
	}
	return out
}

// edits marks every line of both texts by their longest common subsequence. Resources are at most a few thousand lines,
// and what is equal at both ends costs nothing.
func edits(before, after []string) []string {
	head := 0
	for head < min(len(before), len(after)) && before[head] == after[head] {
		head++
	}
	end := 0
	for end < min(len(before), len(after))-head && before[len(before)-1-end] == after[len(after)-1-end] {
		end++
	}
	var out []string
	for _, l := range before[:head] {
		out = append(out, " "+l)
	}
	out = append(out, middle(before[head:len(before)-end], after[head:len(after)-end])...)
	for _, l := range before[len(before)-end:] {
		out = append(out, " "+l)
	}
	return out
}

// tableLimit bounds the memory of the comparison; beyond it everything old goes and everything new comes.
const tableLimit = 16 << 20

func middle(before, after []string) []string {
	var out []string
	if len(before)*len(after) > tableLimit {
		for _, l := range before {
			out = append(out, "-"+l)
		}
		for _, l := range after {
			out = append(out, "+"+l)
		}
		return out
	}
	common := lengths(before, after)
	i, j := 0, 0
	for i < len(before) && j < len(after) {
		switch {
		case before[i] == after[j]:
			out = append(out, " "+before[i])
			i, j = i+1, j+1
		case common[i+1][j] >= common[i][j+1]:
			out = append(out, "-"+before[i])
			i++
		default:
			out = append(out, "+"+after[j])
			j++
		}
	}
	for ; i < len(before); i++ {
		out = append(out, "-"+before[i])
	}
	for ; j < len(after); j++ {
		out = append(out, "+"+after[j])
	}
	return out
}

// lengths answers for every pair of ends how long their longest common subsequence is.
func lengths(before, after []string) [][]int32 {
	common := make([][]int32, len(before)+1)
	for i := range common {
		common[i] = make([]int32, len(after)+1)
	}
	for i, b := range slices.Backward(before) {
		for j := len(after) - 1; j >= 0; j-- {
			if b == after[j] {
				common[i][j] = common[i+1][j+1] + 1
				continue
			}
			common[i][j] = max(common[i+1][j], common[i][j+1])
		}
	}
	return common
}
