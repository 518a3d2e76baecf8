// Package imds is the instance metadata service of EC2 as a server: the token request and its errors, versions 1 and 2 side by
// side or 2 alone, the hop limit of the token's answer, and the tree of metadata with role credentials and the identity document.
//
// It owns the protocol and what the tree holds. A State says which instance it plays and how its metadata options are set; a
// Service answers for it and can be given another State while it runs. Every call is told to an observer, without tokens and
// credentials, and v1 calls are counted as CloudWatch's MetadataNoToken and MetadataNoTokenRejected count them.
//
// Answers follow the EC2 user guide; where that is silent they follow what was seen of the real service, and docs/imds.md says
// which is which. Credentials are made up unless a CredentialSource gives others, and what AWS would sign is signed with a key
// that is made for the run: nothing here is ever valid at AWS by itself.
//
// The package keeps nothing: tokens are sealed under a key of the Service and need no memory, and all are void when it ends. It
// reads no clock of its own. It may not know who uses it: certification and the command line do their own reporting.
package imds

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// Config is what a Service is made with.
type Config struct {
	// State is the instance to play; New completes and checks it.
	State State
	// Credentials gives the role's credentials; nil makes them up.
	Credentials CredentialSource
	// Now is the time; it must not be nil. Tokens and credentials live by it.
	Now func() time.Time
	// Observe is told of every call after it was answered, from many goroutines at a time; nil is nobody. It must not block.
	Observe func(Call)
}

// Service is a metadata service. It is an http.Handler; the hop limit takes effect only where it runs under Serve, which hands it the
// connections. All methods may be called from many goroutines.
type Service struct {
	now         func() time.Time
	observe     func(Call)
	credentials CredentialSource
	tokens      *tokens
	identity    *identity
	served      atomic.Pointer[served]
	counts      counters
}

// served is a State with the tree that was made of it.
type served struct {
	state State
	root  *node
	since time.Time
}

var _ http.Handler = (*Service)(nil)

// New makes a Service. An error says what of the state cannot be.
func New(c Config) (*Service, error) {
	if c.Now == nil {
		return nil, errors.New("metadata service: it needs a clock")
	}
	s := &Service{now: c.Now, observe: c.Observe, credentials: c.Credentials, tokens: newTokens(), identity: new(identity)}
	if s.credentials == nil {
		s.credentials = Generated(c.Now)
	}
	if err := s.SetState(c.State); err != nil {
		return nil, err
	}
	return s, nil
}

// SetState plays another instance, or the same with other options, from the next call on. After an error the old state goes on.
// Tokens stay valid as long as the instance id is the same, as they do on EC2 when options change.
func (s *Service) SetState(given State) error {
	now := s.now()
	state := given.complete(now)
	if old := s.served.Load(); old != nil && given.Launched.IsZero() && old.state.InstanceID == state.InstanceID {
		state.Launched = old.state.Launched // other options are no other launch
	}
	if err := state.validate(); err != nil {
		return err
	}
	s.served.Store(&served{state: state, root: s.tree(state), since: now})
	return nil
}

// State is what is being played, with all that was left open filled in.
func (s *Service) State() State { return s.served.Load().state }

// Counts are the v1 calls so far.
func (s *Service) Counts() Counts { return s.counts.snapshot() }
