// pods judges static pods as the kubelet of the same release does, with its own code:
//
//	pods judge FILE...    prints a JSON line for each: the file, and why the kubelet refuses it
//	pods json FILE...     prints each as one line of JSON
//	pods types            prints the fields of a pod, as src/cli/check/manifest/types.txt has them
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/helper"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/capabilities"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pods:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("pods judge FILE... | json FILE... | types")
	}
	capabilities.Initialize(capabilities.Capabilities{AllowPrivileged: true})
	out := json.NewEncoder(os.Stdout)
	switch arguments[0] {
	case "judge":
		for _, file := range arguments[1:] {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			verdict := map[string]string{"file": file}
			if err := judge(text); err != nil {
				verdict["refused"] = err.Error()
			}
			if err := out.Encode(verdict); err != nil {
				return err
			}
		}
	case "json":
		for _, file := range arguments[1:] {
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if text, err = utilyaml.ToJSON(text); err != nil {
				return err
			}
			fmt.Println(string(text))
		}
	case "types":
		return writeTypes(os.Stdout)
	default:
		return fmt.Errorf("no '%s' here", arguments[0])
	}
	return nil
}

// judge takes the steps of tryDecodeSinglePod and applyDefaults of pkg/kubelet/config/common.go,
// which are private there.
func judge(text []byte) error {
	text, err := utilyaml.ToJSON(text)
	if err != nil {
		return err
	}
	object, err := runtime.Decode(legacyscheme.Codecs.UniversalDecoder(), text)
	if err != nil {
		return err
	}
	pod, ok := object.(*api.Pod)
	if !ok {
		return fmt.Errorf("invalid pod: %T", object)
	}
	if pod.Name == "" {
		return errors.New("invalid pod: name is needed for the pod")
	}
	pod.UID = "0"
	pod.Name += "-node"
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	pod.Spec.NodeName = "node"
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations["kubernetes.io/config.hash"] = string(pod.UID)
	helper.AddOrUpdateTolerationInPod(pod, &api.Toleration{Operator: "Exists", Effect: api.TaintEffectNoExecute})
	pod.Status.Phase = api.PodPending
	options := podutil.GetValidationOptionsFromPodSpecAndMeta(&pod.Spec, nil, &pod.ObjectMeta, nil)
	if errs := validation.ValidatePodCreate(pod, options); len(errs) > 0 {
		return fmt.Errorf("invalid pod: %v", errs.ToAggregate())
	}
	_, reference, err := podutil.HasAPIObjectReference(pod)
	if err != nil {
		return err
	}
	if reference != "" {
		return fmt.Errorf("static pods may not reference %s", reference)
	}
	return nil
}
