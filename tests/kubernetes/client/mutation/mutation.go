// Package mutation makes files out of EncryptionConfigurations that people might have written, or
// nobody: fields removed, doubled, renamed, moved, of another type; odd values; other syntax.
package mutation

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Of changes a file in a few places.
func Of(rng *rand.Rand, file []byte) []byte {
	out := slices.Clone(file)
	if tree := parse(file); tree != nil && rng.IntN(5) > 0 {
		for range 1 + few(rng) {
			tree.mutate(rng)
		}
		out = tree.render(rng)
	} else {
		for range 1 + few(rng) {
			out = lines(rng, out)
		}
	}
	for rng.IntN(10) == 0 {
		out = text(rng, out)
	}
	return out
}

// few is 0 half of the time.
func few(rng *rand.Rand) int {
	n := 0
	for n < 4 && rng.IntN(2) == 0 {
		n++
	}
	return n
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// parse reads what can be read; nil if that is nothing.
func parse(file []byte) *node {
	text, err := yaml.YAMLToJSON(file)
	if err != nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil || value == nil {
		return nil
	}
	return fromJSON(value)
}

// lines changes a file line by line.
func lines(rng *rand.Rand, file []byte) []byte {
	all := strings.SplitAfter(string(file), "\n")
	i, j := rng.IntN(len(all)), rng.IntN(len(all))
	switch rng.IntN(8) {
	case 0:
		all = slices.Delete(all, i, i+1)
	case 1:
		all = slices.Insert(all, i, all[i])
	case 2:
		all[i], all[j] = all[j], all[i]
	case 3:
		all[i] = "  " + all[i]
	case 4:
		all[i] = strings.TrimPrefix(all[i], "  ")
	case 5:
		key, _, found := strings.Cut(all[i], ":")
		if found {
			all[i] = key + ": " + pick(rng, scalars) + "\n"
		}
	case 6:
		key, value, found := strings.Cut(all[i], ":")
		if found {
			bare := strings.TrimLeft(key, " -")
			all[i] = strings.TrimSuffix(key, bare) + pick(rng, keys) + ":" + value
		}
	case 7:
		all[i] = strings.Replace(all[i], "- ", "  ", 1)
	}
	return []byte(strings.Join(all, ""))
}

// text changes what lies around the lines.
func text(rng *rand.Rand, file []byte) []byte {
	whole := string(file)
	switch rng.IntN(12) {
	case 0:
		whole = "\ufeff" + whole
	case 1:
		whole = strings.ReplaceAll(whole, "\n", "\r\n")
	case 2:
		whole = "---\n" + whole
	case 3:
		whole += "---\n" + pick(rng, []string{"", "kind: Pod\n", "a: [\n", whole})
	case 4:
		whole += "...\n"
	case 5:
		whole = "# a comment\n\n" + strings.ReplaceAll(whole, "\n", " # a comment\n")
	case 6:
		whole = strings.TrimRight(whole, "\n")
	case 7:
		whole = strings.ReplaceAll(whole, "\n", "  \n")
	case 8:
		// On a line of its own: only kube-apiserver's reader takes a comment right behind a bracket.
		if !strings.HasSuffix(whole, "\n") {
			whole += "\n"
		}
		whole += pick(rng, []string{"\x00", "\x1b", "# \x07\n", "\xff", "# \xe9\n", "# \u00a0\u2028\n", "\t\n", "# \t\n"})
	case 9:
		whole = pick(rng, []string{" ", "\n", "\t", "%YAML 1.1\n---\n", "%YAML 1.2\n---\n", "\u00a0"}) + whole
	case 10:
		whole = whole[:rng.IntN(len(whole)+1)]
	case 11:
		out := []byte{0xff, 0xfe}
		for _, c := range whole {
			if c < 0x10000 {
				out = append(out, byte(c), byte(c>>8))
			}
		}
		return out
	}
	return []byte(whole)
}
