package mutation

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

type kind int

const (
	scalar kind = iota
	list
	mapping
)

// node is a value as it will be written.
type node struct {
	kind kind
	text string   // of a scalar, as it stands in YAML and JSON
	keys []string // of a mapping
	kids []*node
}

func fromJSON(value any) *node {
	switch value := value.(type) {
	case map[string]any:
		n := &node{kind: mapping}
		for _, key := range slices.Sorted(maps.Keys(value)) {
			n.keys = append(n.keys, key)
			n.kids = append(n.kids, fromJSON(value[key]))
		}
		return n
	case []any:
		n := &node{kind: list}
		for _, item := range value {
			n.kids = append(n.kids, fromJSON(item))
		}
		return n
	default:
		return &node{text: inJSON(value)}
	}
}

func inJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (n *node) clone() *node {
	c := &node{kind: n.kind, text: n.text, keys: slices.Clone(n.keys)}
	for _, kid := range n.kids {
		c.kids = append(c.kids, kid.clone())
	}
	return c
}

// place is a value and where it stands.
type place struct {
	parent *node
	index  int
}

func (n *node) places() []place {
	var all []place
	for i, kid := range n.kids {
		all = append(all, place{n, i})
		all = append(all, kid.places()...)
	}
	return all
}

func (p place) node() *node { return p.parent.kids[p.index] }

func (p place) key() string {
	if p.parent.kind == mapping {
		return p.parent.keys[p.index]
	}
	return ""
}

func (p place) remove() {
	p.parent.kids = slices.Delete(p.parent.kids, p.index, p.index+1)
	if p.parent.kind == mapping {
		p.parent.keys = slices.Delete(p.parent.keys, p.index, p.index+1)
	}
}

func (n *node) add(rng *rand.Rand, key string, kid *node) {
	switch n.kind {
	case mapping:
		n.keys = append(n.keys, key)
	case scalar:
		return
	}
	at := rng.IntN(len(n.kids) + 1)
	if n.kind == mapping {
		n.keys = slices.Insert(n.keys[:len(n.keys)-1], at, key)
	}
	n.kids = slices.Insert(n.kids, at, kid)
}

// mutate changes one thing.
func (n *node) mutate(rng *rand.Rand) {
	all := n.places()
	if len(all) == 0 {
		return
	}
	p := pick(rng, all)
	// Half of the time a value of the right kind, so that rules behind the types are reached too.
	if rng.IntN(2) == 0 {
		p.value(rng, all)
		return
	}
	switch rng.IntN(8) {
	case 0:
		p.remove()
	case 1:
		p.parent.add(rng, p.key(), p.node().clone())
	case 2:
		if p.parent.kind == mapping {
			p.parent.keys[p.index] = otherKey(rng, p.key())
		}
	case 3:
		moved, key := p.node().clone(), p.key()
		if key == "" {
			key = pick(rng, keys)
		}
		to := pick(rng, all).node()
		p.remove()
		to.add(rng, key, moved)
	case 4:
		p.parent.kids[p.index] = otherType(rng, p.node())
	case 5:
		other := pick(rng, all)
		p.parent.kids[p.index], other.parent.kids[other.index] = other.node().clone(), p.node().clone()
	case 6:
		p.node().add(rng, pick(rng, keys), fromText(pick(rng, templates)))
	case 7:
		if p.parent.kind == list {
			i, j := rng.IntN(len(p.parent.kids)), rng.IntN(len(p.parent.kids))
			p.parent.kids[i], p.parent.kids[j] = p.parent.kids[j], p.parent.kids[i]
		}
	}
}

// value changes a value to another one that belongs there.
func (p place) value(rng *rand.Rand, all []place) {
	for range 20 {
		n := p.node()
		if values, ok := valuesOf[p.key()]; ok && n.kind == scalar {
			n.text = pick(rng, values)
			return
		}
		switch p.key() {
		case "resources":
			if n.kind == list && (len(n.kids) == 0 || n.kids[0].kind == scalar) {
				n.add(rng, "", &node{text: pick(rng, resources)})
			} else if n.kind == list {
				n.add(rng, "", fromText(pick(rng, entries)))
			}
			return
		case "providers":
			n.add(rng, "", fromText(pick(rng, providers)))
			return
		case "keys":
			n.add(rng, "", fromText(pick(rng, someKeys)))
			return
		case "kms":
			key := pick(rng, []string{"timeout", "cachesize", "name", "endpoint", "apiVersion"})
			n.add(rng, key, &node{text: pick(rng, valuesOf[key])})
			return
		}
		p = pick(rng, all)
	}
}

func otherKey(rng *rand.Rand, key string) string {
	switch rng.IntN(4) {
	case 0:
		return strings.ToUpper(key[:min(1, len(key))]) + key[min(1, len(key)):]
	case 1:
		return strings.ToLower(key)
	case 2:
		return key + "s"
	default:
		return pick(rng, keys)
	}
}

func otherType(rng *rand.Rand, n *node) *node {
	switch rng.IntN(5) {
	case 0:
		return &node{kind: list, kids: []*node{n.clone()}}
	case 1:
		return &node{kind: mapping, keys: []string{pick(rng, keys)}, kids: []*node{n.clone()}}
	case 2:
		return &node{kind: pick(rng, []kind{list, mapping})}
	default:
		return &node{text: pick(rng, scalars)}
	}
}

// fromText reads a template, which is JSON.
func fromText(text string) *node {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		panic(text + ": " + err.Error())
	}
	return fromJSON(value)
}

// render writes the tree as YAML in one of its styles, or as JSON.
func (n *node) render(rng *rand.Rand) []byte {
	var out strings.Builder
	w := writer{rng: rng, out: &out, plain: rng.IntN(2) == 0, flow: rng.IntN(4) == 0, aliases: rng.IntN(10) == 0}
	if rng.IntN(10) == 0 {
		w.inFlow(n)
		out.WriteString("\n")
	} else {
		w.block(n, 0, false)
	}
	return []byte(out.String())
}

type writer struct {
	rng     *rand.Rand
	out     *strings.Builder
	plain   bool // texts without quotes where that is usual
	flow    bool // small collections in brackets
	aliases bool // anchors, aliases and merge keys, right or wrong
	anchors []string
}

func (w *writer) block(n *node, indent int, inline bool) {
	pad := strings.Repeat(" ", indent)
	for i, kid := range n.kids {
		if !inline || i > 0 {
			w.out.WriteString(pad)
		}
		switch {
		case n.kind == list:
			w.out.WriteString("- ")
		case w.aliases && w.rng.IntN(10) == 0:
			w.out.WriteString("<<:")
		default:
			w.out.WriteString(w.scalar(inJSON(n.keys[i])) + ":")
		}
		separate := ""
		if n.kind == mapping {
			separate = " "
		}
		anchor := w.anchor()
		if strings.HasPrefix(anchor, "*") {
			w.out.WriteString(separate + anchor + "\n")
			continue
		}
		switch {
		case kid.kind == scalar:
			w.out.WriteString(separate + anchor + w.scalar(kid.text) + "\n")
		case len(kid.kids) == 0 || w.flow && len(kid.places()) < 4:
			w.out.WriteString(separate + anchor)
			w.inFlow(kid)
			w.out.WriteString("\n")
		case n.kind == mapping:
			w.out.WriteString(separate + strings.TrimSpace(anchor) + "\n")
			deeper := indent + 2
			if kid.kind == list && w.plain {
				deeper = indent
			}
			w.block(kid, deeper, false)
		case anchor != "":
			w.out.WriteString(strings.TrimSpace(anchor) + "\n")
			w.block(kid, indent+2, false)
		default:
			w.block(kid, indent+2, true)
		}
	}
	if len(n.kids) == 0 {
		if n.kind == scalar {
			w.out.WriteString(n.text + "\n")
		} else {
			w.inFlow(n)
			w.out.WriteString("\n")
		}
	}
}

// anchor is an anchor, an alias, or most of the time nothing.
func (w *writer) anchor() string {
	if !w.aliases || w.rng.IntN(3) > 0 {
		return ""
	}
	if len(w.anchors) > 0 && w.rng.IntN(3) == 0 {
		return "*" + pick(w.rng, w.anchors)
	}
	name := pick(w.rng, []string{"a", "b", "c"})
	w.anchors = append(w.anchors, name)
	return "&" + name + " "
}

func (w *writer) inFlow(n *node) {
	switch n.kind {
	case scalar:
		w.out.WriteString(n.text)
	case list:
		w.out.WriteString("[")
		for i, kid := range n.kids {
			if i > 0 {
				w.out.WriteString(", ")
			}
			w.inFlow(kid)
		}
		w.out.WriteString("]")
	case mapping:
		w.out.WriteString("{")
		for i, kid := range n.kids {
			if i > 0 {
				w.out.WriteString(", ")
			}
			w.out.WriteString(inJSON(n.keys[i]) + ": ")
			w.inFlow(kid)
		}
		w.out.WriteString("}")
	}
}

// scalar takes the quotes away, or others, where a person would.
func (w *writer) scalar(text string) string {
	var value string
	if json.Unmarshal([]byte(text), &value) != nil || value == "" {
		return text
	}
	usual := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/.-+=", c)
	}
	first := rune(value[0])
	if w.plain && usual(first) && first != '-' && first != '=' &&
		strings.IndexFunc(strings.ReplaceAll(value, ":/", ""), func(c rune) bool { return !usual(c) }) < 0 {
		return value
	}
	if w.rng.IntN(10) == 0 && !strings.ContainsAny(value, "'\n\r\t\x00") {
		return "'" + value + "'"
	}
	return text
}
