package rehearse

import (
	"github.com/imdsctl/imdsctl/internal/awssim/sagemaker"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

func seedSageMakerNotebook(s *Sections, resources []inventory.Resource) error {
	section := Section[sagemaker.Seed](s, sagemaker.Name)
	for i := range resources {
		r := &resources[i]
		section.NotebookInstances = append(section.NotebookInstances, sagemaker.NotebookSeed{
			Name: r.Ref.ID, Status: r.State[fieldNotebookStatus], MinimumVersion: r.State[fieldNotebookMinimum],
			InstanceType: r.Attrs[inventory.AttrInstanceType], Tags: r.Tags,
		})
	}
	return nil
}

// The fields of a notebook instance's state.
const (
	fieldNotebookStatus  = "NotebookInstanceStatus"
	fieldNotebookMinimum = "MinimumInstanceMetadataServiceVersion"
)
