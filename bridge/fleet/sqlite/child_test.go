package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"phoenix/bridge/fleet"
)

// The test binary is also the other process that some tests need: the variable
// names what it does, the arguments follow.
const childVar = "PHOENIX_SQLITE_CHILD"

func TestMain(m *testing.M) {
	role := os.Getenv(childVar)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := childRoles()[role](os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func childRoles() map[string]func([]string) error {
	return map[string]func([]string) error{
		"write":  writeUntilKilled,
		"share":  shareFile,
		"nobody": openAsNobody,
	}
}

// child is the command for a child; its errors are in stderr.
func child(t *testing.T, role string, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), childVar+"="+role)
	stderr = &bytes.Buffer{}
	cmd.Stderr = stderr
	return cmd, stderr
}

const rowsPerBatch = 10

// writeUntilKilled prints 0, writes batch after batch to the store at args[0], and
// prints the number of each once it is acknowledged. A batch also takes the claim of one
// row, whose version so counts the batches.
func writeUntilKilled(args []string) error {
	ctx := context.Background()
	fmt.Println(0)
	s, err := Open(ctx, args[0])
	if err != nil {
		return err
	}
	row, err := fleet.ApplyOne(ctx, s, fleet.Add{InstanceID: "hot"})
	for err == nil {
		n := row.ClaimVersion
		changes := []fleet.Change{fleet.Claim{InstanceID: "hot", From: n, Owner: strconv.FormatInt(n, 10),
			JID: "j", Attempt: 1}}
		for i := range rowsPerBatch {
			id := batchID(n+1, i)
			changes = append(changes, fleet.Add{InstanceID: id},
				fleet.Bind{InstanceID: id, KeySHA256: "k", PublicKey: rsaPEM})
		}
		var results []fleet.Result
		if results, err = s.Apply(ctx, changes); err == nil {
			row, err = results[0].Row, results[0].Err
			fmt.Println(row.ClaimVersion)
		}
	}
	return err
}

func batchID(batch int64, i int) string { return fmt.Sprintf("i-%d-%d", batch, i) }

// shareFile changes the store at args[0] as the process named args[1], args[2]
// times, and prints how many claims it won. Now and then it closes the store and
// opens it again: the last one to close removes the -wal file.
func shareFile(args []string) error {
	ctx := context.Background()
	rounds, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	won := 0
	var s *Store
	for i := range rounds {
		if i%25 == 0 {
			if s != nil {
				if err := s.Close(); err != nil {
					return err
				}
			}
			if s, err = Open(ctx, args[0]); err != nil {
				return err
			}
		}
		if _, err := s.Beat(ctx, fleet.Beat{InstanceID: "shared", Incarnation: args[1]}); err != nil {
			return err
		}
		if _, err := fleet.ApplyOne(ctx, s, fleet.Add{InstanceID: fmt.Sprintf("i-%s-%d", args[1], i)}); err != nil {
			return err
		}
		row, err := s.Minion(ctx, "shared")
		if err != nil {
			return err
		}
		_, err = fleet.ApplyOne(ctx, s, fleet.Claim{InstanceID: "shared", From: row.ClaimVersion, Owner: args[1],
			Incarnation: strconv.Itoa(i), JID: "j", Attempt: 1})
		switch {
		case err == nil:
			won++
		case !errors.Is(err, fleet.ErrConflict):
			return err
		}
	}
	fmt.Println(won)
	return s.Close()
}

// openAsNobody opens the store at args[0] as a user who may not, and prints why.
func openAsNobody(args []string) error {
	const nobody = 65534
	if os.Geteuid() == 0 { // permissions do not bind root
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			return err
		}
	}
	s, err := Open(context.Background(), args[0])
	if err == nil {
		return errors.Join(errors.New("opened"), s.Close())
	}
	fmt.Println(errors.Is(err, fleet.ErrDenied), err)
	return nil
}
