package adminauth_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"keyward.dev/controlplane/internal/adminauth"
)

// table is a store of tokens that can be down.
type table struct {
	mu     sync.Mutex
	tokens []adminauth.Token
	err    error
	loads  int
}

func (s *table) AdminTokens(context.Context) ([]adminauth.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	return s.tokens, s.err
}

func (s *table) set(err error, tokens ...adminauth.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens, s.err = tokens, err
}

func runCache(t *testing.T, s *table, wake <-chan struct{}) *adminauth.Cache {
	t.Helper()
	c := adminauth.NewCache(s, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, wake) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return c
}

func TestCacheAnswersWhatItKnowsDuringAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &table{tokens: []adminauth.Token{{ID: "known"}}}
		c := runCache(t, s, nil)
		synctest.Wait()
		s.set(errors.New("database is down"))
		if _, ok, err := c.Token(t.Context(), "known"); !ok || err != nil {
			t.Errorf("Token(known) = %v, %v, want it", ok, err)
		}
		if _, _, err := c.Token(t.Context(), "unknown"); !errors.Is(err, adminauth.ErrUnavailable) {
			t.Errorf("Token(unknown) = %v, want ErrUnavailable: it may exist", err)
		}
	})
}

func TestCacheFindsATokenMadeJustNow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &table{}
		c := runCache(t, s, nil)
		synctest.Wait()
		s.set(nil, adminauth.Token{ID: "new"})
		start := time.Now()
		if _, ok, err := c.Token(t.Context(), "new"); !ok || err != nil {
			t.Errorf("Token(new) = %v, %v, want it", ok, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("Token took %v", took)
		}
	})
}

func TestUnknownTokensDoNotLoadTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &table{}
		c := runCache(t, s, nil)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for range 10 {
					if _, ok, err := c.Token(t.Context(), "guess"); ok || err != nil {
						t.Errorf("Token(guess) = %v, %v", ok, err)
					}
				}
			})
		}
		wg.Wait()
		if s.loads > 15 {
			t.Errorf("%d loads for 1000 guesses", s.loads)
		}
	})
}

func TestWakeUpRemovesADeletedToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &table{tokens: []adminauth.Token{{ID: "gone"}}}
		wake := make(chan struct{}, 1)
		c := runCache(t, s, wake)
		synctest.Wait()
		s.set(nil)
		wake <- struct{}{}
		<-time.After(time.Second) // the bubble's clock: no waiting
		if _, ok := c.Known("gone"); ok {
			t.Error("deleted token still known after a second")
		}
	})
}
