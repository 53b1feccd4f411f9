// Walks through the lab's vCenter with govmomi, which others wrote:
//
//	govc URL VM      (user and password in the URL; any certificate)
//
// Login, find, properties, snapshot, removal, power off, logout; one line for
// each, so that a test can compare them.
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// done waits for a task and returns its result.
func done(ctx context.Context, task *object.Task, err error) types.AnyType {
	must(err)
	info, err := task.WaitForResult(ctx, nil)
	must(err)
	return info.Result
}

func list(ctx context.Context, c *govmomi.Client) {
	m := view.NewManager(c.Client)
	v, err := m.CreateContainerView(ctx, c.ServiceContent.RootFolder,
		[]string{"VirtualMachine"}, true)
	must(err)
	var vms []mo.VirtualMachine
	must(v.Retrieve(ctx, []string{"VirtualMachine"},
		[]string{"name", "config.uuid"}, &vms))
	for _, vm := range vms {
		fmt.Println("vm", vm.Name, vm.Config.Uuid)
	}
	must(v.Destroy(ctx))
}

func track(ctx context.Context, vm *object.VirtualMachine) {
	on := true
	task, err := vm.Reconfigure(ctx, types.VirtualMachineConfigSpec{
		ChangeTrackingEnabled: &on})
	done(ctx, task, err)
	task, err = vm.CreateSnapshot(ctx, "stun", "", false, false)
	done(ctx, task, err)
	task, err = vm.RemoveSnapshot(ctx, "stun", false, &on)
	done(ctx, task, err)
}

func areas(ctx context.Context, c *govmomi.Client, vm *object.VirtualMachine) {
	task, err := vm.CreateSnapshot(ctx, "base", "", false, false)
	ref := done(ctx, task, err).(types.ManagedObjectReference)
	var snap mo.VirtualMachineSnapshot
	must(vm.Properties(ctx, ref, []string{"config.hardware.device"}, &snap))
	devices := object.VirtualDeviceList(snap.Config.Hardware.Device)
	for _, d := range devices.SelectByType((*types.VirtualDisk)(nil)) {
		disk := d.(*types.VirtualDisk)
		backing := disk.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
		answer, err := methods.QueryChangedDiskAreas(ctx, c.Client,
			&types.QueryChangedDiskAreas{This: vm.Reference(),
				Snapshot: &ref, DeviceKey: disk.Key,
				ChangeId: backing.ChangeId})
		must(err)
		fmt.Println("disk", disk.Key, disk.CapacityInBytes,
			answer.Returnval.Length, len(answer.Returnval.ChangedArea))
	}
	task, err = vm.RemoveAllSnapshot(ctx, nil)
	done(ctx, task, err)
}

func main() {
	ctx := context.Background()
	u, err := url.Parse(os.Args[1])
	must(err)
	c, err := govmomi.NewClient(ctx, u, true)
	must(err)
	fmt.Println("api", c.ServiceContent.About.ApiType)
	list(ctx, c)
	finder := find.NewFinder(c.Client, true)
	dc, err := finder.DefaultDatacenter(ctx)
	must(err)
	vm, err := finder.SetDatacenter(dc).VirtualMachine(ctx, os.Args[2])
	must(err)
	fmt.Println("found", vm.Reference().Value, vm.InventoryPath)
	track(ctx, vm)
	areas(ctx, c, vm)
	task, err := vm.PowerOff(ctx)
	done(ctx, task, err)
	state, err := vm.PowerState(ctx)
	must(err)
	fmt.Println("power", state)
	must(c.Logout(ctx))
}
