package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	jsonpatch "github.com/evanphx/json-patch/v5"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	runtimehooksv1 "sigs.k8s.io/cluster-api/api/runtime/hooks/v1alpha1"
	"sigs.k8s.io/cluster-api/cmd/clusterctl/client/yamlprocessor"
	"sigs.k8s.io/cluster-api/core/reconcilers/topology/cluster/patches/inline"
	"sigs.k8s.io/yaml"

	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
)

func substitute() error {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	out, err := yamlprocessor.NewSimpleProcessor().Process(text, func(name string) (string, error) {
		value, ok := os.LookupEnv(name)
		if !ok {
			return "", fmt.Errorf("%s is not set", name)
		}
		return value, nil
	})
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(out)
	return err
}

// class prints the KubeadmControlPlaneTemplate of a file after Cluster API's own generator has run
// all patches of the ClusterClass in the same file.
func class(file, variables, cluster string) error {
	documents, err := split(file)
	if err != nil {
		return err
	}
	decoder := serializer.NewCodecFactory(types(), serializer.EnableStrict).UniversalDeserializer()
	var found *clusterv1.ClusterClass
	var template *controlplanev1.KubeadmControlPlaneTemplate
	var raw []byte
	for _, document := range documents {
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return err
		}
		switch object := object.(type) {
		case *clusterv1.ClusterClass:
			found = object
		case *controlplanev1.KubeadmControlPlaneTemplate:
			template = object
			if raw, err = yaml.YAMLToJSON(document); err != nil {
				return err
			}
		}
	}
	if found == nil || template == nil {
		return errors.New("no ClusterClass, or no KubeadmControlPlaneTemplate")
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal([]byte(variables), &values); err != nil {
		return err
	}
	values["builtin"], err = json.Marshal(map[string]any{
		"cluster":      map[string]string{"name": cluster},
		"controlPlane": map[string]string{"version": "v1.37.2"},
	})
	if err != nil {
		return err
	}
	for i := range found.Spec.Patches {
		request := &runtimehooksv1.GeneratePatchesRequest{Items: []runtimehooksv1.GeneratePatchesRequestItem{{
			UID:             "1",
			HolderReference: runtimehooksv1.HolderReference{Kind: "Cluster", FieldPath: "spec.controlPlaneRef"},
			Object:          runtime.RawExtension{Raw: raw, Object: template},
		}}}
		for name, value := range values {
			request.Variables = append(request.Variables, runtimehooksv1.Variable{Name: name, Value: apiextensionsv1.JSON{Raw: value}})
		}
		response, err := inline.NewGenerator(&found.Spec.Patches[i]).Generate(context.Background(), nil, request)
		if err != nil {
			return fmt.Errorf("patch %s: %w", found.Spec.Patches[i].Name, err)
		}
		for _, item := range response.Items {
			patch, err := jsonpatch.DecodePatch(item.Patch)
			if err != nil {
				return err
			}
			if raw, err = patch.Apply(raw); err != nil {
				return fmt.Errorf("patch %s: %w", found.Spec.Patches[i].Name, err)
			}
		}
	}
	_, err = os.Stdout.Write(append(raw, '\n'))
	return err
}
