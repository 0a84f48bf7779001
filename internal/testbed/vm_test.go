package testbed_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/testbed"
)

func TestVM(t *testing.T) {
	vm := testbed.StartVM(t, testbed.VMOptions{
		Files: map[string]string{"/opt/t/these": "vm_test.go", "/opt/t/vmwire.test": testbed.StaticTest(t, "holdfast/internal/testbed/vmwire")},
		Disks: []int64{48 << 20},
	})
	for _, test := range []struct {
		name string
		run  func(*testing.T, *testbed.VM)
	}{
		{"programs", vmPrograms},
		{"at once", vmAtOnce},
		{"tests", vmTests},
		{"files", vmFiles},
		{"a disk", vmDisk},
		{"off by itself", vmOff},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, vm) })
	}
}

func vmPrograms(t *testing.T, vm *testbed.VM) {
	for _, test := range []struct {
		name    string
		command testbed.VMCommand
		output  string
		exit    int
		failure string
	}{
		{"both outputs", testbed.VMCommand{Args: []string{"sh", "-c", "echo out; echo err >&2; exit 7"}}, "out\nerr\n", 7, ""},
		{"arguments are no shell's", testbed.VMCommand{Args: []string{"echo", "a  b", "$HOME"}}, "a  b $HOME\n", 0, ""},
		{"no input", testbed.VMCommand{Args: []string{"cat"}}, "", 0, ""},
		{"input", testbed.VMCommand{Args: []string{"cat"}, Stdin: []byte("x\x00y")}, "x\x00y", 0, ""},
		{"input that is not read", testbed.VMCommand{Args: []string{"true"}, Stdin: make([]byte, 1<<20)}, "", 0, ""},
		{"environment", testbed.VMCommand{Args: []string{"printenv", "A", "HOME"}, Env: []string{"A=b c"}}, "b c\n/root\n", 0, ""},
		{"much", testbed.VMCommand{Args: []string{"head", "-c", "3000000", "/dev/zero"}}, strings.Repeat("\x00", 3000000), 0, ""},
		{"a server is left behind", testbed.VMCommand{Args: []string{"sh", "-c", "sleep 1000 & echo left"}}, "left\n", 0, ""},
		{"missing", testbed.VMCommand{Args: []string{"no-such-program"}}, "", -1, "not found"},
		{"a signal", testbed.VMCommand{Args: []string{"sh", "-c", "echo last; kill -9 $$"}}, "last\n", -1, "signal: killed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			output, exit, err := vm.Start(test.command).Wait()
			if output != test.output || exit != test.exit {
				t.Errorf("%.100q, exit status %d", output, exit)
			}
			if test.failure == "" && err != nil || test.failure != "" && (err == nil || !strings.Contains(err.Error(), test.failure)) {
				t.Errorf("error %v, want %q", err, test.failure)
			}
		})
	}
}

// vmAtOnce has programs that end only with each other's help.
func vmAtOnce(t *testing.T, vm *testbed.VM) {
	vm.Must(t, "mkfifo", "/run/a", "/run/b")
	first := vm.Start(testbed.VMCommand{Args: []string{"sh", "-c", "cat /run/a; echo first >/run/b"}})
	second := vm.Start(testbed.VMCommand{Args: []string{"sh", "-c", "echo second >/run/a; cat /run/b"}})
	for p, want := range map[*testbed.VMProgram]string{first: "second\n", second: "first\n"} {
		if output, exit, err := p.Wait(); output != want || exit != 0 || err != nil {
			t.Errorf("%q, %d, %v; want %q", output, exit, err, want)
		}
	}

	// A program's death leaves its children; a signal to all of them does not.
	family := testbed.VMCommand{Args: []string{"sh", "-c", "sleep 7654 & echo ready $!; wait"}}
	alone := vm.Start(family)
	alone.Await(t, "ready")
	alone.Kill()
	output, _, err := alone.Wait()
	if err == nil {
		t.Error("it was not killed")
	}
	child := strings.TrimSpace(strings.TrimPrefix(output, "ready"))
	vm.Must(t, "kill", child)

	all := vm.Start(family)
	all.Await(t, "ready")
	all.Signal(syscall.SIGTERM)
	if _, _, err := all.Wait(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("it ended with %v", err)
	}
	if left, exit := vm.Run(t, "pgrep", "-f", "sleep 7654"); exit != 1 {
		t.Errorf("left: %q", left)
	}
}

func vmTests(t *testing.T, vm *testbed.VM) {
	if got := vm.Must(t, "/opt/t/vmwire.test", "-test.v", "-test.run=^TestMixed$"); !strings.Contains(got, "--- PASS: TestMixed") {
		t.Errorf("a test in the machine says %s", got)
	}
}

func vmFiles(t *testing.T, vm *testbed.VM) {
	const path = "/opt/deep/random"
	data := make([]byte, 5<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	vm.Put(t, path, data, 0o640)
	if got := vm.Get(t, path); !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back, of %d, or others", len(got), len(data))
	}
	if got := vm.Must(t, "stat", "-c", "%a %U", path); got != "640 root\n" {
		t.Errorf("mode and owner %q", got)
	}
	if got := vm.Get(t, "/opt/t/these"); !bytes.Contains(got, []byte("func vmFiles")) {
		t.Error("the file that came with the machine is another one")
	}
}

func vmDisk(t *testing.T, vm *testbed.VM) {
	if got := vm.Must(t, "blockdev", "--getsize64", "/dev/vdb"); got != "50331648\n" {
		t.Errorf("size %q", got)
	}
	vm.Must(t, "mkfs.ext4", "-q", "/dev/vdb")
	vm.Must(t, "mkdir", "/mnt/disk")
	vm.Must(t, "mount", "/dev/vdb", "/mnt/disk")
	vm.Put(t, "/mnt/disk/kept", []byte("by a shutdown"), 0o600)
	vm.Reboot(t)
	vm.Must(t, "mount", "/dev/vdb", "/mnt/disk")
	if got := vm.Get(t, "/mnt/disk/kept"); string(got) != "by a shutdown" {
		t.Errorf("the disk holds %q", got)
	}
	vm.Must(t, "umount", "/mnt/disk")
}

func vmOff(t *testing.T, vm *testbed.VM) {
	p := vm.Start(testbed.VMCommand{Args: []string{"sh", "-c", "echo now; echo b >/proc/sysrq-trigger; sleep 1000"}})
	if _, exit, err := p.Wait(); exit != -1 || !errors.Is(err, testbed.ErrVMOff) {
		t.Errorf("%d, %v", exit, err)
	}
	if _, _, err := vm.Start(testbed.VMCommand{Args: []string{"true"}}).Wait(); !errors.Is(err, testbed.ErrVMOff) {
		t.Errorf("a machine that is off runs a program: %v", err)
	}
	vm.Crash(t)
	vm.Must(t, "true")
}
