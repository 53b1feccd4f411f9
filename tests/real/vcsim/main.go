// A vCenter, or with the argument "esx" an ESXi host, that others wrote:
// govmomi's simulator behind TLS.  Prints where it is as one line of JSON and
// ends when stdin is closed.
package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/url"
	"os"
	"strings"

	"github.com/vmware/govmomi/simulator"
)

const user, password = "tester@vsphere.local", "pa<ss>&\"word'"

// Two VMs of one name in two datacenters, and one whose name has a slash.
var names = map[string]string{
	"DC0_H0_VM1": "twin",
	"DC1_H0_VM1": "twin",
	"DC1_H0_VM0": "odd%2fname",

	"ha-host_VM1": "odd%2fname",
}

func rename() {
	for _, e := range simulator.Map.All("VirtualMachine") {
		vm := e.(*simulator.VirtualMachine)
		if name, ok := names[vm.Name]; ok {
			vm.Name = name
			vm.Config.Name = name
		}
	}
}

func colons(sum []byte) string {
	pairs := make([]string, len(sum))
	for i, b := range sum {
		pairs[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(pairs, ":")
}

func main() {
	model := simulator.VPX()
	model.Datacenter = 2
	if len(os.Args) == 2 && os.Args[1] == "esx" {
		model = simulator.ESX()
	}
	if err := model.Create(); err != nil {
		log.Fatal(err)
	}
	defer model.Remove()
	rename()
	model.Service.Listen = &url.URL{
		Host: "127.0.0.1:0",
		User: url.UserPassword(user, password),
	}
	model.Service.TLS = new(tls.Config)
	server := model.Service.NewServer()
	defer server.Close()

	sum := sha256.Sum256(server.Certificate().Raw)
	where := map[string]string{
		"host":     server.URL.Hostname(),
		"port":     server.URL.Port(),
		"user":     user,
		"password": password,
		"sha1":     server.CertificateInfo().ThumbprintSHA1,
		"sha256":   colons(sum[:]),
	}
	if err := json.NewEncoder(os.Stdout).Encode(where); err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		log.Fatal(err)
	}
}
