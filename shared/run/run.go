// Package run owns goroutines: a process is a group of tasks that live and end together. Both planes' wiring starts their
// parts through it, and so does every part that needs more than one goroutine. It must not know what the tasks do.
package run

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// Task is something that works until it fails or its context ends.
type Task = func(ctx context.Context) error

// PanicError is what a task's panic becomes, so that one part's bug ends its siblings in order instead of the process in
// the middle of a write.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string {
	return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack)
}

// Group runs the tasks side by side until all have returned. The first task that fails cancels the others' context with
// its error as the cause. A task that returns nil while ctx lives simply has nothing more to do; the others go on.
//
// Group returns the first failure. It returns nil if there was none, and also if ctx ended: a task that then hands back
// the context's error or its cause has done what it was told.
func Group(ctx context.Context, tasks ...Task) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var (
		wait  sync.WaitGroup
		once  sync.Once
		first error
	)
	for _, task := range tasks {
		wait.Go(func() {
			err := protect(inner, task)
			if err == nil || ended(ctx, err) {
				return
			}
			once.Do(func() {
				first = err
				cancel(err)
			})
		})
	}
	wait.Wait()
	return first
}

// ended tells a normal end from a failure that happens to come late: only errors that are the outer context's own count
// as the end of it.
func ended(ctx context.Context, err error) bool {
	if ctx.Err() == nil {
		return false
	}
	return errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) || errors.Is(err, context.Canceled)
}

// Protect calls the task and turns a panic into a PanicError, for callers that run a task on their own goroutine.
func Protect(ctx context.Context, task Task) error {
	return protect(ctx, task)
}

func protect(ctx context.Context, task Task) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return task(ctx)
}
