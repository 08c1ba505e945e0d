// manifests is what the tests need of Kubernetes' and Cluster API's own code:
//
//	decode FILE...                   decodes YAML strictly into the Go types of the program that consumes it,
//	                                 and prints JSON; a kind that it has no type for is an error
//	substitute                       replaces ${VARIABLE}s from standard input as clusterctl does
//	class FILE VARIABLES CLUSTER     applies a ClusterClass's patches to its control plane's template
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	infrav1 "sigs.k8s.io/cluster-api-provider-openstack/api/v1beta1"
	bootstrapv1beta1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta1"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1beta1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta1"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1beta1 "sigs.k8s.io/cluster-api/api/core/v1beta1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	kubeletv1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

func main() {
	usage := errors.New("manifests decode FILE... | substitute | class FILE VARIABLES-JSON CLUSTER")
	err := usage
	if len(os.Args) > 1 {
		switch arguments := os.Args[2:]; os.Args[1] {
		case "decode":
			err = decode(arguments)
		case "substitute":
			err = substitute()
		case "class":
			if len(arguments) == 3 {
				err = class(arguments[0], arguments[1], arguments[2])
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

// decode prints all documents of the files as one JSON list, in the order read.
func decode(files []string) error {
	all := []json.RawMessage{}
	strict := serializer.NewCodecFactory(types(), serializer.EnableStrict).UniversalDeserializer()
	for _, file := range files {
		documents, err := split(file)
		if err != nil {
			return err
		}
		for i, document := range documents {
			if _, kind, err := strict.Decode(document, nil, nil); err != nil {
				return fmt.Errorf("%s, document %d (%v): %w", file, i+1, kind, err)
			}
			text, err := yaml.YAMLToJSONStrict(document)
			if err != nil {
				return fmt.Errorf("%s, document %d: %w", file, i+1, err)
			}
			all = append(all, text)
		}
	}
	return print(all)
}

func print(v any) error {
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", " ")
	return out.Encode(v)
}

func types() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, apiserverv1.AddToScheme, kubeletv1.AddToScheme,
		clusterv1.AddToScheme, bootstrapv1.AddToScheme, controlplanev1.AddToScheme,
		clusterv1beta1.AddToScheme, bootstrapv1beta1.AddToScheme, controlplanev1beta1.AddToScheme,
		infrav1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err) // two types of one name, a mistake in the list above
		}
	}
	return scheme
}

// split returns the documents of a file that hold more than comments.
func split(file string) ([][]byte, error) {
	f := os.Stdin
	if file != "-" {
		var err error
		if f, err = os.Open(file); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(f))
	var documents [][]byte
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		var value any
		if err := yaml.UnmarshalStrict(document, &value); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if value != nil {
			documents = append(documents, document)
		}
	}
}
