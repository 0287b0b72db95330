package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// rcloneVersion is what the others are measured with.
const rcloneVersion = "v1.76.0"

// rclone copies with --multi-thread-streams and --transfers of j.Parallel, or
// its defaults where that is 0.
func rclone(ctx context.Context, b *bench, j job) (usage, error) {
	binary, err := buildRclone(ctx, b.cache)
	if err != nil {
		return usage{}, err
	}
	args := []string{"copy", "source:" + j.Link.Bucket + "/" + b.prefix, "destination:" + j.Destination.Bucket + "/" + b.prefix, "--config", os.DevNull}
	if n := strconv.Itoa(j.Parallel); j.Parallel > 0 {
		args = append(args, "--multi-thread-streams", n, "--multi-thread-cutoff", "16Mi", "--transfers", n, "--checkers", n)
	}
	cmd := exec.CommandContext(ctx, binary, args...) //nolint:gosec // built above
	cmd.Env = append(os.Environ(), remote("SOURCE", j.Link)...)
	cmd.Env = append(cmd.Env, remote("DESTINATION", j.Destination)...)
	return run(ctx, cmd)
}

func remote(name string, s store) []string {
	prefix := "RCLONE_CONFIG_" + name + "_"
	return []string{
		prefix + "TYPE=s3", prefix + "PROVIDER=Other", prefix + "ENDPOINT=" + s.Endpoint, prefix + "REGION=" + s.Region,
		prefix + "ACCESS_KEY_ID=" + s.AccessKeyID, prefix + "SECRET_ACCESS_KEY=" + s.SecretAccessKey,
		prefix + "NO_CHECK_BUCKET=true",
	}
}

// buildRclone builds rclone from its Go module, once.
func buildRclone(ctx context.Context, cache string) (string, error) {
	dir := filepath.Join(cache, "rclone-"+rcloneVersion)
	binary := filepath.Join(dir, "rclone")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", "github.com/rclone/rclone@"+rcloneVersion)
	cmd.Env = append(os.Environ(), "GOBIN="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build rclone: %w\n%s", err, out)
	}
	return binary, nil
}

// child runs one of the columns below in a process of its own, which is measured.
func child(name string) func(context.Context, *bench, job) (usage, error) {
	return func(ctx context.Context, _ *bench, j job) (usage, error) {
		executable, err := os.Executable()
		if err != nil {
			return usage{}, err
		}
		work, err := json.Marshal(j)
		if err != nil {
			return usage{}, err
		}
		cmd := exec.CommandContext(ctx, executable) //nolint:gosec // this program
		cmd.Env = append(os.Environ(), childMarker+"="+name)
		cmd.Stdin = bytes.NewReader(work)
		return run(ctx, cmd)
	}
}

// childMarker is the environment variable that names a child's column.
const childMarker = "S3FERRY_BENCH_COLUMN"

var children = map[string]func(context.Context, job) error{"plain": plain, "sdk": sdk}

// runChild is the main function of a child.
func runChild(ctx context.Context, name string) error {
	var j job
	if err := json.NewDecoder(os.Stdin).Decode(&j); err != nil {
		return fmt.Errorf("read the work: %w", err)
	}
	return children[name](ctx, j)
}

// plain downloads each object in one stream into a file, then uploads it: what
// a first script does.
func plain(ctx context.Context, j job) error {
	source, destination := j.Link.client(), j.Destination.client()
	for _, o := range j.Objects {
		if err := plainly(ctx, j, source, destination, o.Key); err != nil {
			return err
		}
	}
	return nil
}

func plainly(ctx context.Context, j job, source, destination *s3.Client, key string) error {
	file, err := os.CreateTemp("", "s3ferry-bench-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	// The link resets long downloads, so even a first script tries again, from
	// the start.
	const tries = 100
	for range tries {
		if err = download(ctx, j, source, key, file); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = destination.PutObject(ctx, &s3.PutObjectInput{Bucket: &j.Destination.Bucket, Key: &key, Body: file})
	return err
}

func download(ctx context.Context, j job, source *s3.Client, key string, file *os.File) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := source.GetObject(ctx, &s3.GetObjectInput{Bucket: &j.Link.Bucket, Key: &key})
	if err != nil {
		return err
	}
	defer out.Body.Close()
	_, err = io.Copy(file, out.Body)
	return err
}

// sdk downloads each object in ranges into a file and uploads it in parts, both
// through the SDK's transfer manager, ten objects at once: with j.Parallel ranges
// each and as many retries as it takes, or with the SDK's defaults where that is 0.
func sdk(ctx context.Context, j job) error {
	client := func(s store) *transfermanager.Client {
		return transfermanager.New(s.client(), func(o *transfermanager.Options) {
			o.GetObjectType = types.GetObjectRanges
			if j.Parallel > 0 {
				o.Concurrency, o.PartBodyMaxRetries = j.Parallel, 1000
			}
		})
	}
	source, destination := client(j.Link), client(j.Destination)
	g, ctx := errgroup.WithContext(ctx)
	const objects = 10
	g.SetLimit(objects)
	for _, o := range j.Objects {
		g.Go(func() error {
			file, err := os.CreateTemp("", "s3ferry-bench-")
			if err != nil {
				return err
			}
			defer os.Remove(file.Name())
			defer file.Close()
			if _, err := source.DownloadObject(ctx, &transfermanager.DownloadObjectInput{
				Bucket: &j.Link.Bucket, Key: &o.Key, WriterAt: file,
			}); err != nil {
				return fmt.Errorf("download %s: %w", o.Key, err)
			}
			if _, err := file.Seek(0, io.SeekStart); err != nil {
				return err
			}
			if _, err := destination.UploadObject(ctx, &transfermanager.UploadObjectInput{
				Bucket: &j.Destination.Bucket, Key: &o.Key, Body: file,
			}); err != nil {
				return fmt.Errorf("upload %s: %w", o.Key, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// run runs cmd to its end and measures it.
func run(ctx context.Context, cmd *exec.Cmd) (usage, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, err
	}
	pids := []int{cmd.Process.Pid}
	m := startMeter(ctx, func() []int { return pids })
	err := cmd.Wait()
	u := usage{took: time.Since(start)}
	u.peak, _ = m.end(nil)
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err != nil {
		const most = 2000
		text := stderr.Bytes()
		return u, fmt.Errorf("%w: %s", err, text[max(0, len(text)-most):])
	}
	return u, nil
}
