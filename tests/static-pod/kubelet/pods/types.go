package main

import (
	"fmt"
	"io"
	"reflect"
	"sort"
	"strings"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// writeTypes prints Pod and all types in it, a line for each: `Type field:kind ...`. A kind is a
// type, or string, bool, int32, int64, quantity, port, time or any; `[` stands before those of a
// list, `{` before those of a map.
func writeTypes(out io.Writer) error {
	known := map[reflect.Type]bool{}
	var lines []string
	var visit func(reflect.Type)
	var fields func(reflect.Type) []string
	kind := func(of reflect.Type) string {
		prefix := ""
		for {
			switch of {
			case reflect.TypeFor[resource.Quantity]():
				return prefix + "quantity"
			case reflect.TypeFor[intstr.IntOrString]():
				return prefix + "port"
			case reflect.TypeFor[metav1.Time](), reflect.TypeFor[metav1.MicroTime]():
				return prefix + "time"
			case reflect.TypeFor[metav1.FieldsV1]():
				return prefix + "any"
			}
			switch of.Kind() {
			case reflect.Pointer:
				of = of.Elem()
			case reflect.Slice:
				prefix, of = prefix+"[", of.Elem()
			case reflect.Map:
				prefix, of = prefix+"{", of.Elem()
			case reflect.Struct:
				visit(of)
				return prefix + of.Name()
			default:
				return prefix + of.Kind().String()
			}
		}
	}
	fields = func(of reflect.Type) []string {
		var all []string
		for i := range of.NumField() {
			field := of.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name == "" && field.Anonymous {
				all = append(all, fields(field.Type)...)
			} else if name != "" && name != "-" {
				all = append(all, name+":"+kind(field.Type))
			}
		}
		return all
	}
	visit = func(of reflect.Type) {
		if known[of] {
			return
		}
		known[of] = true
		lines = append(lines, of.Name()+" "+strings.Join(fields(of), " "))
	}
	visit(reflect.TypeFor[v1.Pod]())
	sort.Strings(lines)
	_, err := fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}
