package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// A process is one of this program, or of another build of it, which answers a
// line of JSON on its standard input with one on its standard output. It ends at
// the end of its input, so it does not outlive the process that started it.
type process struct {
	questions io.WriteCloser
	out       *json.Encoder // to questions
	answers   *json.Decoder
	wait      func() error
	kill      func() // ends it at once, and the answer that it owes
}

// startSelf starts this program again, with a command.
func startSelf(ctx context.Context, command ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, self, command...)
}

// startProcess starts an executable with a command of this program. It is
// killed when ctx is done.
func startProcess(ctx context.Context, executable string, command ...string) (*process, error) {
	ctx, kill := context.WithCancel(ctx)
	c := exec.CommandContext(ctx, executable, command...)
	c.Stderr = os.Stderr
	in, inErr := c.StdinPipe()
	out, outErr := c.StdoutPipe()
	if err := errors.Join(inErr, outErr, c.Start()); err != nil {
		kill()
		return nil, err
	}
	return newProcess(in, out, c.Wait, kill), nil
}

func newProcess(questions io.WriteCloser, answers io.Reader, wait func() error, kill func()) *process {
	return &process{
		questions: questions, out: json.NewEncoder(questions), answers: json.NewDecoder(answers),
		wait: wait, kill: kill,
	}
}

// ask fills answer with what the process says to question.
func (p *process) ask(question, answer any) error {
	if err := p.out.Encode(question); err != nil {
		return err
	}
	if err := p.answers.Decode(answer); err != nil {
		return fmt.Errorf("a process ended early: %w", err)
	}
	return nil
}

// end waits until the process has ended by itself.
func (p *process) end() error {
	defer p.kill()
	return errors.Join(p.questions.Close(), p.wait())
}

// answerAll is the other end of ask. It returns at the end of in.
func answerAll[Q, A any](in io.Reader, out io.Writer, answer func(Q) A) error {
	questions, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q Q
		if err := questions.Decode(&q); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(answer(q)); err != nil {
			return err
		}
	}
}
