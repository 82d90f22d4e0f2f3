// Drives a network configuration list through libcni, as a container runtime does:
//
//	cnitool add|check|del CONFLIST NETNS
//
// CNI_PATH is where the plugins are. CNI_CONTAINERID, CNI_IFNAME and CNI_ARGS are optional, and so is CAP_ARGS, a JSON
// object of capability arguments. add prints the result.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: cnitool add|check|del CONFLIST NETNS")
	}
	list, err := libcni.ConfListFromFile(args[1])
	if err != nil {
		return err
	}
	attachment, err := attachmentFor(args[2])
	if err != nil {
		return err
	}
	cni := libcni.NewCNIConfig(filepath.SplitList(os.Getenv("CNI_PATH")), nil)
	switch args[0] {
	case "add":
		result, err := cni.AddNetworkList(context.Background(), list, attachment)
		if err != nil {
			return err
		}
		return result.Print()
	case "check":
		return cni.CheckNetworkList(context.Background(), list, attachment)
	case "del":
		return cni.DelNetworkList(context.Background(), list, attachment)
	}
	return fmt.Errorf("unknown verb %q", args[0])
}

func attachmentFor(netns string) (*libcni.RuntimeConf, error) {
	attachment := &libcni.RuntimeConf{
		ContainerID: valueOr("CNI_CONTAINERID", filepath.Base(netns)),
		NetNS:       netns,
		IfName:      valueOr("CNI_IFNAME", "eth0"),
	}
	for _, pair := range strings.Split(os.Getenv("CNI_ARGS"), ";") {
		if name, value, found := strings.Cut(pair, "="); found {
			attachment.Args = append(attachment.Args, [2]string{name, value})
		}
	}
	if text := os.Getenv("CAP_ARGS"); text != "" {
		if err := json.Unmarshal([]byte(text), &attachment.CapabilityArgs); err != nil {
			return nil, fmt.Errorf("CAP_ARGS: %w", err)
		}
	}
	return attachment, nil
}

func valueOr(variable, fallback string) string {
	if value := os.Getenv(variable); value != "" {
		return value
	}
	return fallback
}
