package cloudformation

import "testing"

// FuzzBegin: a token that is accepted says where a list goes on, and no token is its beginning.
func FuzzBegin(f *testing.F) {
	f.Add(token(100))
	f.Add("LTE")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := begin(text)
		if err == nil && (n < 0 || n == 0 && text != "") {
			t.Errorf("%q gave %d", text, n)
		}
	})
}
