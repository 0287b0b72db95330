package door_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/s3ferry/s3ferry/internal/door"
)

func compile(t *testing.T, r door.Route) *jsonschema.Schema {
	t.Helper()
	raw, err := json.Marshal(r.Model())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("model.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("model.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestTransfersModel(t *testing.T) {
	schema := compile(t, door.SendTransfers)
	entry := `{"Id":"a","MessageBody":"aa.bb.cc"}`
	for name, tc := range map[string]struct {
		body string
		ok   bool
	}{
		"one":             {`{"entries":[` + entry + `]}`, true},
		"ten":             {`{"entries":[` + strings.Repeat(entry+",", 9) + entry + `]}`, true},
		"none":            {`{"entries":[]}`, false},
		"eleven":          {`{"entries":[` + strings.Repeat(entry+",", 10) + entry + `]}`, false},
		"no entries":      {`{}`, false},
		"a list":          {`[]`, false},
		"more members":    {`{"entries":[` + entry + `],"QueueUrl":"x"}`, false},
		"delay":           {`{"entries":[{"Id":"a","MessageBody":"aa.bb.cc","DelaySeconds":900}]}`, false},
		"attributes":      {`{"entries":[{"Id":"a","MessageBody":"aa.bb.cc","MessageAttributes":{}}]}`, false},
		"not a JWS":       {`{"entries":[{"Id":"a","MessageBody":"hello"}]}`, false},
		"number as body":  {`{"entries":[{"Id":"a","MessageBody":7}]}`, false},
		"quote in the id": {`{"entries":[{"Id":"a\"","MessageBody":"aa.bb.cc"}]}`, false},
		"too long":        {`{"entries":[{"Id":"a","MessageBody":"a.b.` + strings.Repeat("c", door.MaxMessage) + `"}]}`, false},
	} {
		body, err := jsonschema.UnmarshalJSON(strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(body); (err == nil) != tc.ok {
			t.Errorf("%s: accepted=%v, want %v (%v)", name, err == nil, tc.ok, err)
		}
	}
}

// The laptop cloud uses Request where API Gateway uses Template.
func TestRequestIsWhatTheTemplateMakes(t *testing.T) {
	body := `{"entries":[{"Id":"a","ReceiptHandle":"h"}]}`
	for _, r := range door.Routes() {
		rendered := r.Template("https://q/1")
		rendered = strings.ReplaceAll(rendered, "$input.json('$.entries')", `[{"Id":"a","ReceiptHandle":"h"}]`)
		request, err := r.Request("https://q/1", []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		var got, want any
		if err := json.Unmarshal([]byte(rendered), &want); err != nil {
			t.Fatalf("%s: the template makes no JSON: %v\n%s", r.Name, err, rendered)
		}
		if err := json.Unmarshal(request, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: template (-) and request (+) differ:\n%s", r.Name, diff)
		}
	}
}

func TestABatchOfTheLargestMessagesFitsSQS(t *testing.T) {
	if total := door.MaxEntries * door.MaxMessage; total > 256<<10 {
		t.Errorf("%d messages of %d bytes are %d, more than 256 KiB", door.MaxEntries, door.MaxMessage, total)
	}
}
