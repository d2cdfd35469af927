// What an unmodified AWS SDK for Go does with a stream, from its making to its deletion. Ends with an error at the first surprise.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"sort"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

const stream = "compat-go"

type stored struct {
	number, key string
	data        []byte
}

func check(holds bool, what ...any) {
	if !holds {
		log.Fatal(what...)
	}
}

func must[T any](value T, err error) T {
	check(err == nil, err)
	return value
}

func data(n int) []byte {
	made := make([]byte, n*7)
	for i := range made {
		made[i] = byte(i * n)
	}
	return made
}

func putAll(ctx context.Context, client *kinesis.Client) []stored {
	var entries []types.PutRecordsRequestEntry
	for n := range 500 {
		key := fmt.Sprintf("clé-%d", n)
		entries = append(entries, types.PutRecordsRequestEntry{Data: data(n), PartitionKey: &key})
	}
	answer := must(client.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: aws.String(stream), Records: entries}))
	check(*answer.FailedRecordCount == 0, "records were refused")
	var all []stored
	for n, record := range answer.Records {
		all = append(all, stored{*record.SequenceNumber, *entries[n].PartitionKey, data(n)})
	}
	one := must(client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String(stream), PartitionKey: aws.String("one"), Data: []byte("alone")}))
	return append(all, stored{*one.SequenceNumber, "one", []byte("alone")})
}

func readAll(ctx context.Context, client *kinesis.Client) []stored {
	var all []stored
	for _, shard := range must(client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: aws.String(stream)})).Shards {
		iterator := must(client.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{
			StreamName: aws.String(stream), ShardId: shard.ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
		})).ShardIterator
		for iterator != nil {
			answer := must(client.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: iterator, Limit: aws.Int32(100)}))
			for _, record := range answer.Records {
				check(time.Since(*record.ApproximateArrivalTimestamp).Abs() < 10*time.Minute, record.ApproximateArrivalTimestamp)
				all = append(all, stored{*record.SequenceNumber, *record.PartitionKey, record.Data})
			}
			iterator = answer.NextShardIterator
			if *answer.MillisBehindLatest == 0 {
				break
			}
		}
	}
	return all
}

// subscribe reads the shard that was split to its end, by a subscription: how many records it has.
func subscribe(ctx context.Context, client *kinesis.Client) int {
	summary := must(client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: aws.String(stream)}))
	consumer := must(client.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{
		StreamARN: summary.StreamDescriptionSummary.StreamARN, ConsumerName: aws.String("go"),
	})).Consumer
	for range 10 {
		count, err := readToEnd(ctx, client, consumer)
		if !errors.Is(err, net.ErrClosed) {
			check(err == nil, err)
			return count
		}
		// The SDK closes a request's body when the answer has come; if the transport has yet to look whether the body goes on behind its
		// length, it takes what it finds for a failed request and closes the connection under the answer. Rare, and the client's own doing.
		time.Sleep(300 * time.Millisecond)
	}
	log.Fatal("the client has closed the connection of each subscription")
	return 0
}

func readToEnd(ctx context.Context, client *kinesis.Client, consumer *types.Consumer) (int, error) {
	answer := must(client.SubscribeToShard(ctx, &kinesis.SubscribeToShardInput{
		ConsumerARN: consumer.ConsumerARN, ShardId: aws.String("shardId-000000000000"),
		StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon},
	}))
	events := answer.GetStream()
	defer events.Close()
	count, children := 0, 0
	for event := range events.Events() {
		value := event.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
		count += len(value.Records)
		children = len(value.ChildShards)
	}
	if events.Err() == nil {
		check(children == 2, children)
	}
	return count, events.Err()
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	client := kinesis.New(kinesis.Options{
		Region:       "us-east-1",
		BaseEndpoint: aws.String(os.Getenv("AWS_ENDPOINT_URL_KINESIS")),
		Credentials:  credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), ""),
	})
	must(client.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: aws.String(stream), ShardCount: aws.Int32(2)}))
	waiter := kinesis.NewStreamExistsWaiter(client)
	check(waiter.Wait(ctx, &kinesis.DescribeStreamInput{StreamName: aws.String(stream)}, time.Minute) == nil, "the stream is ACTIVE")

	fmt.Println("passed: create, wait")
	put, read := putAll(ctx, client), readAll(ctx, client)
	for _, all := range [][]stored{put, read} {
		sort.Slice(all, func(i, j int) bool { return all[i].number < all[j].number })
	}
	check(len(put) == len(read), len(put), len(read))
	for n := range put {
		same := put[n].number == read[n].number && put[n].key == read[n].key && bytes.Equal(put[n].data, read[n].data)
		check(same, put[n], read[n])
	}

	fmt.Println("passed: 500 records in one put, every record read with its number, key and bytes")
	must(client.SplitShard(ctx, &kinesis.SplitShardInput{
		StreamName: aws.String(stream), ShardToSplit: aws.String("shardId-000000000000"), NewStartingHashKey: aws.String("1000"),
	}))
	listed := must(client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: aws.String(stream)}))
	check(len(listed.Shards) == 4, listed.Shards)

	fmt.Println("passed: split")

	subscribed := subscribe(ctx, client)
	check(subscribed > 0 && subscribed <= len(put), subscribed)
	fmt.Println("passed: a subscription to the end of a shard")

	_, err := client.DescribeStream(ctx, &kinesis.DescribeStreamInput{StreamName: aws.String("no-such-stream")})
	var missing *types.ResourceNotFoundException
	check(errors.As(err, &missing), err)

	fmt.Println("passed: errors by type")
	must(client.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: aws.String(stream), EnforceConsumerDeletion: aws.Bool(true)}))
	fmt.Println("passed: delete")
}
