package emr

import (
	"encoding/json"
	"testing"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

func FuzzMarker(f *testing.F) {
	f.Add(nextMarker(50))
	f.Add("MA")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := marker(wire.Fields(map[string]wire.Value{"Marker": wire.Scalar(text)}))
		if err == nil && (n < 1 && text != "" || n < 0) {
			t.Errorf("%q gave %d", text, n)
		}
	})
}

// FuzzDocument: what the check lets through says a version of 1 or 2 and a hop limit of 1 to 64, or nothing.
func FuzzDocument(f *testing.F) {
	f.Add(`{"InstanceMetadataServiceConfiguration":{"MinimumInstanceMetadataServiceVersion":2,"HttpPutResponseHopLimit":64}}`)
	f.Add(`{"InstanceMetadataServiceConfiguration":{"HttpPutResponseHopLimit":"1"}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var doc map[string]any
		if json.Unmarshal([]byte(text), &doc) != nil || checkDocument(doc) != nil {
			return
		}
		part, _ := doc["InstanceMetadataServiceConfiguration"].(map[string]any)
		if n, ok := part["HttpPutResponseHopLimit"].(float64); ok && (n < 1 || n > 64) {
			t.Errorf("accepted %s", text)
		}
		if n, ok := part["MinimumInstanceMetadataServiceVersion"]; ok && n != 1.0 && n != 2.0 {
			t.Errorf("accepted %s", text)
		}
	})
}
