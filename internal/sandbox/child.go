package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Child must be the first thing that main calls, and a TestMain of tests that use a sandbox. It returns at once in an
// ordinary process, and never in the process that [Command] started: there it finishes the isolation and executes the
// program.
func Child() {
	if os.Args[0] != childName {
		return
	}
	err := isolate()
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintf(os.Stderr, "holdfast sandbox: %v\n", err)
	os.Exit(SetupFailed)
}

// isolate returns nil only for a trial; otherwise the program replaces this one.
func isolate() error {
	// Capabilities, no-new-privileges and the parent-death signal belong to a thread: the one that sets them must be
	// the one that executes.
	runtime.LockOSThread()
	if os.Getpid() != 1 || len(os.Args) != 2 {
		return errors.New("not started by sandbox.Command")
	}
	var s spec
	if err := json.Unmarshal([]byte(os.Args[1]), &s); err != nil {
		return fmt.Errorf("read options: %w", err)
	}
	// Opened while the host's /proc is there, read when the parent-death signal is armed.
	parent, err := os.Open(filepath.Join("/proc", strconv.Itoa(s.Parent), "stat"))
	if err != nil {
		return fmt.Errorf("look for the parent: %w", err)
	}
	unix.Umask(0o022)
	if err := unix.Sethostname([]byte("drill")); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := buildRoot(s); err != nil {
		return err
	}
	if err := dropPrivileges(s.UID, s.GID); err != nil {
		return err
	}
	// A change of user clears the signal that the parent asked for; what if it died in between?
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("set parent-death signal: %w", err)
	}
	if err := checkAlive(parent); err != nil {
		return err
	}
	// Descriptors that the parent itself inherited may be folders of the host.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	if err := os.Chdir(s.Dir); err != nil {
		return fmt.Errorf("enter working directory: %w", err)
	}
	unix.Umask(0o077)
	if len(s.Argv) == 0 {
		return nil
	}
	return fmt.Errorf("execute %s: %w", s.Argv[0], syscall.Exec(s.Argv[0], s.Argv, os.Environ()))
}

// dropPrivileges leaves the calling thread without any way to gain a privilege.
func dropPrivileges(uid, gid int) error {
	// With a limit of 1 neither a core file nor a core handler on the host gets the program's memory; with 0 a
	// handler would.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1}); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	for capability := uintptr(0); ; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && capability > 0 {
			break // past the last one that this kernel knows
		}
		if err != nil {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("drop groups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("become group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	// The change of user has cleared the effective and permitted sets, not the inheritable one.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("clear capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new privileges: %w", err)
	}
	return nil
}

// checkAlive fails if the process whose /proc/PID/stat is open has ended, reaped or not.
func checkAlive(stat *os.File) error {
	var buffer [512]byte
	n, err := stat.ReadAt(buffer[:], 0)
	if n == 0 {
		return fmt.Errorf("the parent has ended: %w", err)
	}
	// "pid (name) state …": the name may hold anything, a parenthesis too.
	_, state, found := bytes.Cut(buffer[bytes.LastIndexByte(buffer[:n], ')')+1:n], []byte(" "))
	if !found || bytes.HasPrefix(state, []byte("Z")) || bytes.HasPrefix(state, []byte("X")) {
		return errors.New("the parent has ended")
	}
	return nil
}
