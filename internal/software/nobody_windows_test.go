package software_test

import "testing"

// asNobody is not called on Windows, where nobody has the number of root.
func asNobody(t *testing.T) { t.Fatal("there is no root on Windows") }
