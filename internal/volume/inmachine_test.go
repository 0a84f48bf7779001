package volume_test

import (
	"strings"
	"testing"

	"holdfast/internal/testbed"
)

// TestInMachine runs the tests of kernel_test.go in a virtual machine, which has the device mapper that they need.
func TestInMachine(t *testing.T) {
	vm := testbed.StartVM(t, testbed.VMOptions{Files: map[string]string{"/opt/volume.test": testbed.StaticTest(t, "holdfast/internal/volume")}})
	// Its /tmp may be memory, which has no immutable folders there.
	vm.Must(t, "mkdir", "-p", "/var/lib/volumes")
	program := vm.Start(testbed.VMCommand{Args: []string{"/opt/volume.test", "-test.v", "-test.run", "^TestKernel"}, Env: []string{"TMPDIR=/var/lib/volumes"}})
	output, exit, err := program.Wait()
	for _, test := range []string{"TestKernel/xfs", "TestKernelInterrupted/make_the_data_folder"} {
		if !strings.Contains(output, "--- PASS: "+test+" ") {
			t.Errorf("%s did not pass", test)
		}
	}
	if t.Failed() || exit != 0 || err != nil {
		t.Errorf("exit status %d, %v:\n%s", exit, err, output)
	}
}
