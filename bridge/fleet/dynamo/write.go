package dynamo

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/bridge/fleet"
)

// write is one conditional update of one item. Its expressions name attributes
// as #name (some names, "status" among them, are reserved words) and values as
// what value returns.
type write struct {
	guards, sets, removes []string
	values                item
}

// value returns the placeholder of a value.
func (w *write) value(v types.AttributeValue) string {
	if w.values == nil {
		w.values = item{}
	}
	name := fmt.Sprintf(":v%d", len(w.values))
	w.values[name] = v
	return name
}

// when adds a condition; %s stands for values.
func (w *write) when(guard string, values ...types.AttributeValue) {
	names := make([]any, len(values))
	for i, v := range values {
		names[i] = w.value(v)
	}
	w.guards = append(w.guards, "("+fmt.Sprintf(guard, names...)+")")
}

// is adds the condition that an attribute has that value, which may be empty.
func (w *write) is(name string, want any) {
	v := reflect.ValueOf(want)
	if v.IsZero() {
		zero := text("")
		switch v.Kind() {
		case reflect.Bool:
			zero = &types.AttributeValueMemberBOOL{}
		case reflect.Int, reflect.Int64:
			zero = number(0)
		}
		w.when("attribute_not_exists(#"+name+") OR #"+name+" = %s", zero)
		return
	}
	w.when("#"+name+" = %s", encode(v))
}

// set sets an attribute, or removes it if the value is empty.
func (w *write) set(name string, to any) {
	if v := encode(reflect.ValueOf(to)); v != nil {
		w.sets = append(w.sets, "#"+name+" = "+w.value(v))
	} else {
		w.removes = append(w.removes, "#"+name)
	}
}

// rewrite is the write that makes next of the row in it; before is what that
// item was read as. It goes through only if all that a fleet.Change could see in
// the row is still so. public_key says no more than key_sha256, and modified is
// the store's.
func rewrite(it item, before, next fleet.Minion) *write {
	w := &write{}
	if it == nil {
		w.when("attribute_not_exists(#instanceid)")
	}
	after := map[string]reflect.Value{}
	for name, v := range attributes(&next) {
		after[name] = v
	}
	for name, old := range attributes(&before) {
		if name == "modified" {
			continue
		}
		if it != nil && name != "public_key" {
			if raw, ok := it[name]; ok {
				w.when("#"+name+" = %s", raw)
			} else {
				w.when("attribute_not_exists(#" + name + ")")
			}
		}
		if v := after[name]; name != "instanceid" && v.Interface() != old.Interface() {
			w.set(name, v.Interface())
		}
	}
	return w
}

var attributeName = regexp.MustCompile(`#\w+`)

// update sends w, with modified set to now, and gives the row as it is after it.
// If the condition fails, done is false, and the row is the one that failed it
// (nil: there is none).
func (s *Store) update(ctx context.Context, table, id string, w *write) (after item, done bool, err error) {
	w.set("modified", fleet.FormatTime(s.now()))
	update := "SET " + strings.Join(w.sets, ", ")
	if len(w.removes) > 0 {
		update += " REMOVE " + strings.Join(w.removes, ", ")
	}
	in := &dynamodb.UpdateItemInput{
		TableName: &table, Key: item{"instanceid": text(id)},
		UpdateExpression: &update, ExpressionAttributeValues: w.values, ExpressionAttributeNames: map[string]string{},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	condition := strings.Join(w.guards, " AND ")
	if condition != "" {
		in.ConditionExpression = &condition
	}
	for _, name := range attributeName.FindAllString(update+condition, -1) {
		in.ExpressionAttributeNames[name] = name[1:]
	}
	var failed *types.ConditionalCheckFailedException
	err = s.call(ctx, "write "+id, func(ctx context.Context) error {
		out, err := s.client.UpdateItem(ctx, in)
		if errors.As(err, &failed) {
			return nil
		}
		if err == nil {
			after = out.Attributes
		}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	if failed != nil {
		return failed.Item, false, nil
	}
	return after, true, nil
}

// readItem reads one item, the newest there is; nil if there is none.
func (s *Store) readItem(ctx context.Context, table string, key item) (it item, err error) {
	id, _ := plain(key["instanceid"])
	err = s.call(ctx, "read "+id, func(ctx context.Context) error {
		out, err := s.client.GetItem(ctx,
			&dynamodb.GetItemInput{TableName: &table, Key: key, ConsistentRead: aws.Bool(true)})
		if err == nil {
			it = out.Item
		}
		return err
	})
	return it, err
}
