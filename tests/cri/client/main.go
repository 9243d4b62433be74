// A client of the kubelet's interface to a container runtime, for tests: cri SOCKET METHOD <REQUEST.json.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What each method takes and gives.
var methods = map[string][2]any{
	"Version":          {&cri.VersionRequest{}, &cri.VersionResponse{}},
	"RunPodSandbox":    {&cri.RunPodSandboxRequest{}, &cri.RunPodSandboxResponse{}},
	"StopPodSandbox":   {&cri.StopPodSandboxRequest{}, &cri.StopPodSandboxResponse{}},
	"RemovePodSandbox": {&cri.RemovePodSandboxRequest{}, &cri.RemovePodSandboxResponse{}},
	"PodSandboxStatus": {&cri.PodSandboxStatusRequest{}, &cri.PodSandboxStatusResponse{}},
	"CreateContainer":  {&cri.CreateContainerRequest{}, &cri.CreateContainerResponse{}},
	"StartContainer":   {&cri.StartContainerRequest{}, &cri.StartContainerResponse{}},
	"StopContainer":    {&cri.StopContainerRequest{}, &cri.StopContainerResponse{}},
	"RemoveContainer":  {&cri.RemoveContainerRequest{}, &cri.RemoveContainerResponse{}},
	"ContainerStatus":  {&cri.ContainerStatusRequest{}, &cri.ContainerStatusResponse{}},
	"ContainerStats":   {&cri.ContainerStatsRequest{}, &cri.ContainerStatsResponse{}},
	"ExecSync":         {&cri.ExecSyncRequest{}, &cri.ExecSyncResponse{}},
}

func main() {
	if err := call(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func call(socket, method string) error {
	types, known := methods[method]
	if !known {
		return fmt.Errorf("no such method: %s", method)
	}
	if err := json.NewDecoder(os.Stdin).Decode(types[0]); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	to, err := grpc.DialContext(ctx, "unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer to.Close()
	if err := to.Invoke(ctx, "/runtime.v1.RuntimeService/"+method, types[0], types[1]); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(types[1])
}
