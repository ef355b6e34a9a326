package dynamo

import (
	"fmt"
	"iter"
	"reflect"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/bridge/fleet"
)

// item is a row as DynamoDB has it, unknown attributes included.
type item = map[string]types.AttributeValue

// What the Phoenix of 2015 wrote for "none".
const (
	noRunner2015 = "no-highstate-runner"
	noIP2015     = "no-ip-yet"
)

// attributes returns the fields of a row by their json tags, which are the names
// of the attributes too: table and --json cannot differ. row is a pointer.
func attributes(row any) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		v := reflect.ValueOf(row).Elem()
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			if !yield(name, v.Field(i)) {
				return
			}
		}
	}
}

// encode returns the attribute of a field, or nil if the field is empty.
func encode(v reflect.Value) types.AttributeValue {
	if v.IsZero() {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		return number(v.Elem().Int())
	case reflect.Bool:
		return &types.AttributeValueMemberBOOL{Value: true}
	case reflect.Int, reflect.Int64:
		return number(v.Int())
	default:
		return text(v.String())
	}
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func minionOf(table string, it item) (fleet.Minion, error) {
	var row fleet.Minion
	if err := decode(table, it, &row); err != nil {
		return fleet.Minion{}, err
	}
	if err := statusOf(table, it, row.Status); err != nil {
		return fleet.Minion{}, err
	}
	if row.HighstateRunner == noRunner2015 {
		row.HighstateRunner = ""
	}
	return row, nil
}

func masterOf(table string, it item) (fleet.Master, error) {
	var row fleet.Master
	if err := decode(table, it, &row); err != nil {
		return fleet.Master{}, err
	}
	if err := statusOf(table, it, row.Status); err != nil {
		return fleet.Master{}, err
	}
	if row.IPAddr == noIP2015 {
		row.IPAddr = ""
	}
	return row, nil
}

// statusOf refuses a status that is neither LAUNCH nor TERMINATE: most decisions
// begin with it.
func statusOf(table string, it item, status fleet.Status) error {
	if status == fleet.Launch || status == fleet.Terminate {
		return nil
	}
	return damaged(table, plainKey(it), fmt.Errorf("attribute status is %.40q", status))
}

// exact reports whether an attribute decides about keys or claims, or which row it
// is: what cannot be read there makes the row bad, since a guess might accept a
// wrong key or run a highstate twice. Each other attribute is taken for empty,
// which is the cautious reading of it: not ready, no group, never expires. What
// has a wrong public_key is not written as accepted, since its digest differs.
func exact(name string) bool {
	switch name {
	case "instanceid", "status", "highstate_ran", "highstate_runner", "minion_id", "key_sha256",
		"claim_version", "claim_owner", "claim_incarnation", "claim_jid", "claim_state", "attempt", // of minions
		"heartbeat", "incarnation": // of masters, on which takeovers of claims depend
		return true
	}
	return false
}

// decode reads an item into row, a pointer. It takes numbers for texts and the
// other way round, as other writers have them, and the whole part of a number
// where the rest decides nothing: Python's time() is a fraction.
func decode(table string, it item, row any) error {
	for name, field := range attributes(row) {
		value, ok := plain(it[name])
		var err error
		switch {
		case !ok:
			err = fmt.Errorf("attribute %s is a %s", name,
				strings.TrimPrefix(fmt.Sprintf("%T", it[name]), "*types.AttributeValueMember"))
		case value != "":
			if !exact(name) {
				value = whole(field, value)
			}
			if err = set(field, value); err != nil {
				err = fmt.Errorf("attribute %s: %w", name, err)
			}
		}
		if err != nil && exact(name) {
			return damaged(table, plainKey(it), err)
		} else if err != nil {
			field.SetZero()
		}
	}
	return nil
}

// whole cuts the fraction off a number that is due to be whole.
func whole(field reflect.Value, value string) string {
	kind := field.Kind()
	if kind == reflect.Pointer {
		kind = field.Type().Elem().Kind()
	}
	if kind == reflect.Int || kind == reflect.Int64 {
		value, _, _ = strings.Cut(value, ".")
	}
	return value
}

func plainKey(it item) string {
	key, _ := plain(it["instanceid"])
	return key
}

// plain returns a scalar as text; what is missing or NULL is empty.
func plain(v types.AttributeValue) (value string, ok bool) {
	switch v := v.(type) {
	case nil, *types.AttributeValueMemberNULL:
		return "", true
	case *types.AttributeValueMemberS:
		return v.Value, true
	case *types.AttributeValueMemberN:
		return v.Value, true
	case *types.AttributeValueMemberBOOL:
		return strconv.FormatBool(v.Value), true
	}
	return "", false
}

func set(field reflect.Value, value string) error {
	switch field.Kind() {
	case reflect.Pointer:
		field.Set(reflect.New(field.Type().Elem()))
		return set(field.Elem(), value)
	case reflect.Bool:
		b, err := strconv.ParseBool(value)
		field.SetBool(b)
		return err
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(value, 10, 64)
		field.SetInt(n)
		return err
	default:
		field.SetString(value)
		return nil
	}
}
