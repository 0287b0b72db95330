package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/linking"
)

type linkFlags struct {
	global, china   linking.Side
	options         linking.Options
	status, json    bool
	imports, export string // files
}

func newLink() *cobra.Command {
	var f linkFlags
	command := &cobra.Command{
		Use:   "link",
		Short: "Tie a sender and a receiver together, and prove it",
		Long: `Link reads the outputs of both deployed stacks, makes a signing key, has the
receiver trust it, proves by a signed no-op transfer that it does, and only then
gives it to the sender. Run again, it proves the link and mends what is missing.
If anything fails, everything is put back as it was.

--rotate replaces the key. The old one stays trusted until nothing that it
signed can be under way: until no sender can use it any more (3 minutes) and the
inbox has been seen empty for a minute, or for 15 days. Link waits for that up
to --wait; what it leaves goes with a later run.

Where nobody has both profiles, two people do it by two files. Neither file
holds a secret in the clear, but compare the fingerprints by telephone, say.

--name, which is the source bucket's name unless you give another, is what key
IDs begin with, so that a rotation knows its own keys.`,
		Example: `  s3ferry link --global-profile global --china-profile china
  s3ferry link --global-profile global --china-profile china --dry-run
  s3ferry link --global-profile global --china-profile china --rotate
  s3ferry link --global-profile global --china-profile china --status

  # In two halves: sender, receiver, sender.
  s3ferry link --global-profile global --export request.json
  s3ferry link --china-profile china --import request.json --export answer.json
  s3ferry link --global-profile global --import answer.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(cobra.NoArgs(cmd, args), f.check(cmd.Flags().Changed))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := command.Flags()
	for _, side := range []struct {
		name, what, stack string
		to                *linking.Side
	}{
		{"global", "sender", linking.GlobalStack, &f.global}, {"china", "receiver", linking.ChinaStack, &f.china},
	} {
		flags.StringVar(&side.to.Profile, side.name+"-profile", "", "AWS `PROFILE` of the "+side.what)
		flags.StringVar(&side.to.Region, side.name+"-region", "", "region of the "+side.what+"'s stack (default: the profile's)")
		flags.StringVar(&side.to.Stack, side.name+"-stack", side.stack, "the "+side.what+"'s stack")
	}
	flags.StringVar(&f.options.Name, "name", "", "what key IDs begin with (default: as before, or the source bucket's name)")
	flags.StringArrayVar(&f.options.Sources, "source-bucket", nil, "allow one more source `BUCKET` of the sender, beside the one that its stack names; repeat for several")
	flags.BoolVar(&f.options.Rotate, "rotate", false, "make a new key, and replace a link secret that is broken or leads elsewhere")
	flags.BoolVar(&f.options.Revoke, "revoke", false, "remove replaced keys at once: what they signed and is under way, and what senders sign with them for the next 2 minutes, goes to the receiver's dead letters")
	flags.DurationVar(&f.options.Wait, "wait", 10*time.Minute, "how long to wait until a replaced key can be removed")
	flags.BoolVar(&f.options.DryRun, "dry-run", false, "say what would be done, and change nothing")
	flags.BoolVar(&f.status, "status", false, "say how the link stands, and exit with 0 only if it is whole")
	flags.StringVar(&f.export, "export", "", "write a `FILE` for the other side")
	flags.StringVar(&f.imports, "import", "", "read the other side's `FILE`")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return command
}

// check says which flags do not belong together.
func (f *linkFlags) check(given func(string) bool) error {
	global, china := f.global.Profile != "", f.china.Profile != ""
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	switch halves := f.imports != "" || f.export != ""; {
	case !global && !china:
		bad("--global-profile and --china-profile: got neither")
	case f.status && halves:
		bad("--status goes with neither --export nor --import")
	case f.status:
	case !halves && global != china:
		bad("got one profile only: give both --global-profile and --china-profile, or --status, or --export and --import")
	case !halves:
	case global && china:
		bad("--export and --import are for one profile: with both, link does all at once")
	case china && (f.imports == "" || f.export == ""):
		bad("the receiver's half takes both --import and --export")
	case global && f.imports != "" && f.export != "":
		bad("the sender's half is either --export or --import")
	}
	if f.status {
		for _, name := range []string{"rotate", "revoke", "dry-run", "name", "source-bucket", "wait"} {
			if given(name) {
				bad("--status changes nothing, so --%s has no meaning", name)
			}
		}
	}
	if f.options.Wait < 0 {
		bad("--wait: got %s, expected 0 or more", f.options.Wait)
	}
	return errors.Join(problems...)
}

// sides opens the sides that profiles are given for; the other is nil.
func (f *linkFlags) sides(ctx context.Context) (g *linking.Global, c *linking.China, err error) {
	f.global.Other, f.china.Other = f.china.Stack, f.global.Stack
	var errs [2]error
	if f.global.Profile != "" {
		g, errs[0] = linking.OpenGlobal(ctx, f.global)
	}
	if f.china.Profile != "" {
		c, errs[1] = linking.OpenChina(ctx, f.china)
	}
	return g, c, errors.Join(errs[:]...)
}

func (f *linkFlags) run(cmd *cobra.Command) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	if f.export != "" {
		if _, err := os.Lstat(f.export); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("--export: %s is there already", f.export)
		}
	}
	var content []byte
	if f.imports != "" {
		var err error
		if content, err = os.ReadFile(f.imports); err != nil {
			return fmt.Errorf("--import: %w", err)
		}
	}
	global, china, err := f.sides(ctx)
	if err != nil {
		return err
	}
	linker := &linking.Linker{}
	if !f.json {
		linker.Tell = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
	}
	switch {
	case f.status:
		return f.printStatus(out)(linker.Status(ctx, global, china))
	case china == nil && f.export != "":
		return f.writeFile(out)(linker.Export(ctx, global, f.options))
	case global == nil:
		return f.writeFile(out)(linker.Answer(ctx, china, content, f.options))
	case china == nil:
		return f.printResult(out)(linker.Complete(ctx, global, content, f.options))
	}
	return f.printResult(out)(linker.Link(ctx, global, china, f.options))
}

// printResult prints a result, if there is one, and returns the error beside it.
func (f *linkFlags) printResult(out io.Writer) func(*linking.Result, error) error {
	return func(r *linking.Result, err error) error {
		switch {
		case r == nil:
			return err
		case f.json:
			return errors.Join(json.NewEncoder(out).Encode(r), err)
		}
		if r.Imported != "" {
			fmt.Fprintf(out, "read         %s\nfingerprint  %s\n", f.imports, r.Imported)
		}
		if r.DryRun {
			printSteps(out, r.Steps)
			return err
		}
		fmt.Fprintf(out, "linked       %s in %s (%s, account %s) to %s\n", r.Source.Bucket, r.Source.Region, r.Source.Partition, r.Source.Account, r.Mailbox)
		kind := "as before"
		if r.NewKey {
			kind = "new"
		}
		fmt.Fprintf(out, "key          %s, %s\n", r.KeyID, kind)
		for _, id := range r.Others {
			fmt.Fprintf(out, "beware       %s is trusted too: senders on one mailbox take each other's receipts\n", id)
		}
		for _, id := range r.Removed {
			fmt.Fprintf(out, "removed      %s\n", id)
		}
		for _, k := range r.Retiring {
			fmt.Fprintf(out, "retiring     %s is trusted until a later `s3ferry link` finds the inbox empty, or runs after %s\n", k.KeyID, k.Until.Format(time.DateOnly))
		}
		return err
	}
}

func printSteps(out io.Writer, steps []string) {
	for _, step := range steps {
		fmt.Fprintln(out, "would", step)
	}
}

// writeFile writes a half for the other side.
func (f *linkFlags) writeFile(out io.Writer) func(*linking.File, error) error {
	return func(file *linking.File, err error) error {
		if err != nil {
			return err
		}
		if !f.options.DryRun {
			if err := writeNew(f.export, file.Content); err != nil {
				return fmt.Errorf("--export: %w: run this again with another file", err)
			}
		}
		if f.json {
			return json.NewEncoder(out).Encode(file)
		}
		if file.Imported != "" {
			fmt.Fprintf(out, "read         %s\nfingerprint  %s\n", f.imports, file.Imported)
		}
		if file.DryRun {
			printSteps(out, append(file.Steps, "write "+f.export))
			return nil
		}
		fmt.Fprintf(out, "wrote        %s, for the other side\nfingerprint  %s\n", f.export, file.Fingerprint)
		return nil
	}
}

// writeNew writes a file that is not there yet.
func writeNew(path string, content []byte) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = file.Write(content)
	return err
}

// printStatus prints a status. A link that is not whole is an error, for the
// exit code.
func (f *linkFlags) printStatus(out io.Writer) func(*linking.Status, error) error {
	return func(s *linking.Status, err error) error {
		if err != nil {
			return err
		}
		if f.json {
			err = json.NewEncoder(out).Encode(s)
		} else {
			printStatus(out, s)
		}
		if !s.Linked {
			err = errors.Join(err, fmt.Errorf("not linked: %s", strings.Join(s.Why, "; ")))
		}
		return err
	}
}

func printStatus(out io.Writer, s *linking.Status) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"", "", "age"})
	if g := s.Global; g != nil {
		t.AppendRow(table.Row{"sender", fmt.Sprintf("%s in %s (%s, account %s)", g.Source.Bucket, g.Source.Region, g.Source.Partition, g.Source.Account)})
		if g.Key != nil {
			t.AppendRow(table.Row{"mailbox", g.Mailbox})
			t.AppendRow(table.Row{"signs with", g.Key.ID, age(*g.Key)})
		}
		if g.Pending != "" {
			t.AppendRow(table.Row{"waits for an answer", g.Pending})
		}
	}
	if c := s.China; c != nil {
		t.AppendRow(table.Row{"receiver", fmt.Sprintf("%s (%s, account %s)", c.Mailbox, c.Partition, c.Account)})
		for _, k := range c.Keys {
			role := "trusts"
			switch {
			case k.InUse:
				role = "trusts, in use"
			case k.Retires != nil:
				role = "trusts until " + k.Retires.Format(time.DateOnly)
			}
			t.AppendRow(table.Row{role, k.ID, age(k)})
		}
		for _, source := range c.Sources {
			t.AppendRow(table.Row{"allows", source})
		}
	}
	t.Render()
}

func age(k linking.KeyStatus) string {
	if k.Days == nil {
		return "unknown"
	}
	return fmt.Sprintf("%d days", *k.Days)
}
