package all_test

import (
	"os"
	"testing"

	"github.com/imdsctl/imdsctl/internal/kind/kindtest"
	"github.com/imdsctl/imdsctl/internal/kinds/all"
)

func TestKinds(t *testing.T) { kindtest.Run(t, all.List(), os.DirFS("..")) }
