package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"

	"github.com/s3ferry/s3ferry/internal/cost"
)

type costFlags struct {
	workload cost.Workload
	per      string
	link     string
	json     bool
}

func newCost() *cobra.Command {
	var f costFlags
	command := &cobra.Command{
		Use:   "cost",
		Short: "Estimate what carrying objects costs, on both sides",
		Long: `Cost multiplies the requests that carrying takes, as they were counted on the
laptop cloud, by list prices of us-east-1, and tells what leaves the source's
region apart. AWS China's prices are its own, in CNY, and not known here: those
of us-east-1 stand for them. Free tiers and discounts are left out, and so are
storage, retries and what a VPC costs.

With --per it is of 30 days, with what runs while nothing is carried.

How long functions work cannot be counted on a laptop. Those of the receiver are
from docs/performance.md, for a fair or a bad link; --alone has every object come
by itself, so that none shares a request with another. It calls nobody.`,
		Example: `  s3ferry cost --objects 1000000 --size 10000
  s3ferry cost --objects 500 --size 50000000 --per day
  s3ferry cost --objects 20 --size 1000000000 --per month --link bad --json`,
		Args: func(cmd *cobra.Command, args []string) error { return errors.Join(cobra.NoArgs(cmd, args), f.check()) },
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.OutOrStdout()) },
	}
	flags := command.Flags()
	flags.Float64Var(&f.workload.Objects, "objects", 0, "`NUMBER` of objects")
	flags.Float64Var(&f.workload.Size, "size", 0, "`BYTES` of each")
	flags.StringVar(&f.per, "per", "", "`PERIOD` in which so many come, day or month (default: once)")
	flags.StringVar(&f.link, "link", cost.Fair.Name, "what lies between the sides, fair or bad")
	flags.BoolVar(&f.workload.Alone, "alone", false, "no object comes together with another")
	flags.BoolVar(&f.json, "json", false, "print JSON, with the prices and their sources")
	return command
}

// check says what is wrong with the flags, and takes them over.
func (f *costFlags) check() error {
	var problems []error
	switch f.per {
	case "":
	case "day":
		f.workload.Per = 24 * time.Hour
	case "month":
		f.workload.Per = 30 * 24 * time.Hour
	default:
		problems = append(problems, fmt.Errorf("--per: got %q, expected day or month", f.per))
	}
	switch f.link {
	case cost.Fair.Name:
		f.workload.Link = cost.Fair
	case cost.Bad.Name:
		f.workload.Link = cost.Bad
	default:
		problems = append(problems, fmt.Errorf("--link: got %q, expected fair or bad", f.link))
	}
	return errors.Join(append(problems, f.workload.Check())...)
}

func (f *costFlags) run(out io.Writer) error {
	estimate := cost.New(f.workload)
	if f.json {
		return json.NewEncoder(out).Encode(struct {
			cost.Estimate

			USD    map[string]float64 `json:"usd"`
			Prices []cost.Price       `json:"prices"`
		}{estimate, map[string]float64{
			cost.Carrying: estimate.USD(cost.Carrying), cost.Standing: estimate.USD(cost.Standing), cost.Egress: estimate.USD(cost.Egress),
		}, cost.Prices()})
	}
	printEstimate(out, f.workload, estimate)
	return nil
}

func printEstimate(out io.Writer, w cost.Workload, e cost.Estimate) {
	t := table.NewWriter()
	t.SetOutputMirror(out)
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.Style().Format.Footer = text.FormatDefault
	t.SetColumnConfigs([]table.ColumnConfig{
		{Number: 4, Align: text.AlignRight}, {Number: 5, Align: text.AlignRight, AlignFooter: text.AlignRight},
	})
	t.AppendHeader(table.Row{"", "side", "what", "quantity", "USD"})
	last := ""
	for _, line := range e.Lines {
		if line.Kind != last {
			t.AppendSeparator()
		}
		kind := line.Kind
		if kind == last {
			kind = ""
		}
		last = line.Kind
		t.AppendRow(table.Row{kind, line.Side, line.Item, quantity(line.Quantity), dollars(line.USD)})
	}
	t.AppendFooter(table.Row{"all but egress", "", "", "", dollars(e.USD(cost.Carrying, cost.Standing))})
	t.AppendFooter(table.Row{"all", "", "", "", dollars(e.USD(cost.Carrying, cost.Standing, cost.Egress))})
	t.Render()
	when := "carried once"
	if w.Per > 0 {
		when = "in 30 days"
	}
	fmt.Fprintf(out, "%s objects of %s, %s, over a %s link. List prices of us-east-1, also in place of AWS China's; --json has their sources.\n",
		quantity(e.Objects), progress.FormatBytes(int64(w.Size)), when, w.Link.Name)
}

// quantity has few digits.
func quantity(n float64) string {
	if n >= 1000 {
		return progress.FormatNumber(int64(n))
	}
	return fmt.Sprintf("%.3g", n)
}

// dollars has cents, or three digits of less than one.
func dollars(usd float64) string {
	if usd >= 0.1 || usd == 0 {
		return fmt.Sprintf("%.2f", usd)
	}
	return fmt.Sprintf("%.2g", usd)
}
