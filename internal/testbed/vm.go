package testbed

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/testbed/vmwire"
)

// bootTime is how long a machine may take until its agent answers, or to go off. Without hardware that helps, and beside other tests,
// it is slow.
const bootTime = 5 * time.Minute

// VMOptions says what a virtual machine has beside its system disk. Its zero value is the plainest.
type VMOptions struct {
	// Systemd starts systemd and udev, as on a real machine. Without it the agent is the only service, there is no udev, and the
	// modules that encrypted volumes need are loaded.
	Systemd bool
	// Files are put on the system disk with mode 0755: path there → path here.
	Files map[string]string
	// Disks are the sizes in bytes of further disks, which are empty: /dev/vdb and so on; with udev, also /dev/disk/by-id/virtio-disk1
	// and so on.
	Disks []int64
	// Memory is in MiB. Default: 1536.
	Memory int
}

// VM is a throwaway virtual machine with two processors, a kernel and a system disk of its own, and no network. What it writes to
// disks outlives a reboot and a crash. It needs no rights, and uses the hardware's help where it has it. Its methods may be called at
// once, but Reboot and Crash only when nothing else is called.
type VM struct {
	options VMOptions
	agent   string
	disks   []*os.File // the layer above the system disk, and the further disks; their names are gone already
	files   *os.File   // a disk that is a tar file, as above; nil: no files
	console console
	now     *session
}

// StartVM starts a machine, and returns when programs can be run in it; systemd may still have units to start. It ends with the test.
func StartVM(t testing.TB, opt VMOptions) *VM {
	t.Helper()
	v := &VM{options: opt}
	if v.options.Memory == 0 {
		v.options.Memory = 1536
	}
	// Always the one that belongs to this package.
	v.agent = StaticProgram(t, "holdfast/internal/testbed/cmd/vmagent")
	t.Cleanup(func() {
		if v.now != nil {
			v.now.kill()
		}
		for _, disk := range v.attached() {
			if err := disk.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	if err := errors.Join(v.makeDisks(), v.makeFiles()); err != nil {
		t.Fatal(err)
	}
	v.boot(t)
	if v.files != nil {
		v.Must(t, "tar", "--no-same-owner", "-C", "/", "-xf", diskName(len(v.disks)+1)) // the agent's is before it
	}
	return v
}

// diskName is the machine's for its disk i, from 0: the kernel finds them in the order in which they are attached.
func diskName(i int) string { return fmt.Sprintf("/dev/vd%c", 'a'+i) }

// Reboot shuts the machine down in its own way and starts it again.
func (v *VM) Reboot(t testing.TB) {
	t.Helper()
	program := []string{"busybox", "reboot"}
	if v.options.Systemd {
		program = []string{"systemctl", "reboot"}
	}
	v.Start(VMCommand{Args: program})
	select {
	case <-v.now.ended:
	case <-time.After(bootTime):
		v.now.kill()
		t.Fatalf("the machine does not shut down:\n%s", v.Console())
	}
	v.boot(t)
}

// Crash cuts the power, if the machine has not gone off by itself, and starts it again. What the machine did not yet ask its disks to
// keep may be lost.
func (v *VM) Crash(t testing.TB) {
	t.Helper()
	v.now.kill()
	v.boot(t)
}

// Console is the end of what the kernel and the first process said so far.
func (v *VM) Console() string { return v.console.String() }

// StaticProgram builds a command of this module, such as holdfast/cmd/holdfast, so that it runs in a machine. Its file goes with the test.
func StaticProgram(t testing.TB, command string) string {
	t.Helper()
	return static(t, command, "build", "-ldflags=-s -w")
}

// StaticTest builds the tests of a package of this module, such as holdfast/internal/volume, so that they run in a machine: those with the build
// tag machine too, which run nowhere else.
func StaticTest(t testing.TB, pkg string) string {
	t.Helper()
	return static(t, pkg, "test", "-c", "-tags=machine")
}

func static(t testing.TB, pkg string, args ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), filepath.Base(pkg))
	cmd := exec.Command("go", append(args, "-trimpath", "-o", program, pkg)...)
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, output)
	}
	return program
}

// vmFile is a file that testbed/vm.sh made.
func vmFile(name string) string { return filepath.Join(cache(), "vm", name) }

// nameless makes a file that has no name any more: whatever becomes of the test, nothing of it is left.
func nameless() (*os.File, error) {
	f, err := os.CreateTemp(engineRoot(), "hf-vm-")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// makeDisks makes the disks that this machine alone writes to.
func (v *VM) makeDisks() error {
	base := vmFile("root.img")
	if _, err := os.Stat(base); err != nil {
		return fmt.Errorf("%w: run testbed/install.sh", err)
	}
	for _, size := range append([]int64{0}, v.options.Disks...) {
		f, err := nameless()
		if err != nil {
			return err
		}
		v.disks = append(v.disks, f)
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	create := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", descriptor(0))
	create.ExtraFiles = v.disks[:1]
	if output, err := create.CombinedOutput(); err != nil {
		return fmt.Errorf("make a layer above the system disk: %w: %s", err, output)
	}
	return nil
}

// makeFiles makes the disk of files: the agent's link would be slow for programs.
func (v *VM) makeFiles() (err error) {
	if len(v.options.Files) == 0 {
		return nil
	}
	if v.files, err = nameless(); err != nil {
		return err
	}
	w := tar.NewWriter(v.files)
	for there, here := range v.options.Files {
		data, err := os.ReadFile(here)
		if err != nil {
			return err
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(there, "/"), Mode: 0o755, Size: int64(len(data))}
		if err := w.WriteHeader(header); err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return w.Close()
}

// attached are the files that qemu gets beside the agent's link.
func (v *VM) attached() []*os.File {
	if v.files == nil {
		return v.disks
	}
	return append(slices.Clip(v.disks), v.files)
}

// descriptor is a program's name for file i of those that it gets.
func descriptor(i int) string { return fmt.Sprintf("/proc/self/fd/%d", 3+i) }

var virtualizes = regexp.MustCompile(`(?m)^flags\s*:.*\s(vmx|svm)\b`)

// hardware reports whether the processor helps. A device alone says little: there are hosts whose /dev/kvm runs no stock kernel.
func hardware() (bool, error) {
	flags, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !virtualizes.Match(flags) {
		return false, err
	}
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, device.Close()
}

// arguments are those of qemu, whose first file is the agent's link and whose others are the disks.
func (v *VM) arguments() ([]string, error) {
	helped, err := hardware()
	if err != nil {
		return nil, err
	}
	accel := "tcg,thread=multi"
	if helped {
		accel = "kvm"
	}
	// The tests of ciphers at each load are the kernel's own business, and slow when emulated.
	kernel := "console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off cryptomgr.notests=1 audit=0 apparmor=0 selinux=0 rcupdate.rcu_expedited=1 " +
		"systemd.show_status=false"
	if v.options.Systemd {
		kernel += " vm.init=systemd"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "pc", "-accel", accel,
		"-cpu", "max,la57=off", // five levels of page tables are slow when emulated
		"-smp", "2", "-m", strconv.Itoa(v.options.Memory), "-kernel", vmFile("kernel"), "-initrd", vmFile("initrd"), "-append", kernel,
		"-serial", "stdio",
		"-chardev", "socket,id=agent,fd=3", "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=" + vmwire.Port,
	}
	disk := func(name, file string) {
		args = append(args, "-drive", "if=none,id="+name+","+file, "-device", "virtio-blk-pci,drive="+name+",serial="+name)
	}
	for i := range v.disks {
		format := "raw"
		if i == 0 {
			format = "qcow2"
		}
		disk(fmt.Sprintf("disk%d", i), fmt.Sprintf("format=%s,discard=unmap,file=%s", format, descriptor(1+i)))
	}
	disk("agent", "format=raw,readonly=on,file="+v.agent)
	if v.files != nil {
		disk("files", "format=raw,readonly=on,file="+descriptor(1+len(v.disks)))
	}
	return args, nil
}

// boot starts the machine and waits for its agent.
func (v *VM) boot(t testing.TB) {
	t.Helper()
	args, err := v.arguments()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	here, there := os.NewFile(uintptr(pair[0]), "agent"), os.NewFile(uintptr(pair[1]), "agent's end")
	defer here.Close()  // a copy is used
	defer there.Close() // qemu has its own
	conn, err := net.FileConn(here)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.ExtraFiles = append([]*os.File{there}, v.attached()...)
	cmd.Stdout, cmd.Stderr = &v.console, &v.console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		conn.Close()
		t.Fatalf("start a machine: %v: run testbed/install.sh", err)
	}
	v.now = newSession(cmd, conn)
	select {
	case <-v.now.ready:
	case <-v.now.ended:
		t.Fatalf("the machine went off at once:\n%s", v.Console())
	case <-time.After(bootTime):
		t.Fatalf("the machine does not answer:\n%s", v.Console())
	}
}

// console keeps the end of what is written to it.
type console struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (c *console) Write(p []byte) (int, error) {
	const most = 64 << 10
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	if len(c.text) > most {
		c.text = append([]byte(nil), c.text[len(c.text)-most:]...)
	}
	return len(p), nil
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}
