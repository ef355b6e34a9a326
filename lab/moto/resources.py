# Resources that moto's CloudFormation does not know, though moto has what they make.
import json

from moto.autoscaling.models import autoscaling_backends
from moto.cloudwatch.models import Dimension, Metric, MetricDataQuery, MetricStat, cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends
from moto.utilities.utils import get_partition


class Made:
    """What a stack keeps of a resource: its name."""

    def __init__(self, name):
        self.name = name

    @property
    def physical_resource_id(self):
        return self.name

    @staticmethod
    def cloudformation_name_type():
        return ""


class ScalingPolicy(Made, CloudFormationModel):
    @staticmethod
    def cloudformation_type():
        return "AWS::AutoScaling::ScalingPolicy"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
        p = cloudformation_json["Properties"]
        tracking = p["TargetTrackingConfiguration"]
        tracking["TargetValue"] = float(tracking["TargetValue"])
        autoscaling_backends[account_id][region_name].put_scaling_policy(
            resource_name, p["PolicyType"], None, None, p["AutoScalingGroupName"], None, None, None, tracking, None, None, None)
        return cls(resource_name)


class WarmPool(Made, CloudFormationModel):
    @staticmethod
    def cloudformation_type():
        return "AWS::AutoScaling::WarmPool"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
        p = cloudformation_json["Properties"]
        autoscaling_backends[account_id][region_name].put_warm_pool(
            p["AutoScalingGroupName"], None, int(p["MinSize"]), p["PoolState"], p.get("InstanceReusePolicy"))
        return cls(p["AutoScalingGroupName"])


class Alarm(Made, CloudFormationModel):
    @staticmethod
    def cloudformation_type():
        return "AWS::CloudWatch::Alarm"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
        p = cloudformation_json["Properties"]
        queries = [
            MetricDataQuery(q["Id"], q.get("Label"), None, q.get("ReturnData", True), q.get("Expression"),
                            stat(q["MetricStat"]) if "MetricStat" in q else None)
            for q in p.get("Metrics", [])
        ]
        cloudwatch_backends[account_id][region_name].put_metric_alarm(
            name=p["AlarmName"], namespace=p.get("Namespace"), metric_name=p.get("MetricName"),
            comparison_operator=p["ComparisonOperator"], evaluation_periods=int(p["EvaluationPeriods"]),
            period=p.get("Period"), threshold=float(p["Threshold"]), statistic=p.get("Statistic"),
            description=p["AlarmDescription"], dimensions=p.get("Dimensions", []), alarm_actions=p.get("AlarmActions", []),
            ok_actions=p.get("OKActions", []), metric_data_queries=queries, treat_missing_data=p.get("TreatMissingData"))
        return cls(p["AlarmName"])


def stat(s):
    m = s["Metric"]
    dimensions = [Dimension(d["Name"], d["Value"]) for d in m.get("Dimensions", [])]
    return MetricStat(Metric(m["MetricName"], m["Namespace"], dimensions), s["Period"], s["Stat"], s.get("Unit"))


class QueuePolicy(Made, CloudFormationModel):
    @staticmethod
    def cloudformation_type():
        return "AWS::SQS::QueuePolicy"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
        p = cloudformation_json["Properties"]
        for url in p["Queues"]:
            queue = url.rsplit("/", 1)[1]
            sqs_backends[account_id][region_name].set_queue_attributes(queue, {"Policy": json.dumps(p["PolicyDocument"])})
        return cls(resource_name)


class BucketPolicy(Made, CloudFormationModel):
    @staticmethod
    def cloudformation_type():
        return "AWS::S3::BucketPolicy"

    @classmethod
    def create_from_cloudformation_json(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs):
        p = cloudformation_json["Properties"]
        s3_backends[account_id][get_partition(region_name)].put_bucket_policy(p["Bucket"], json.dumps(p["PolicyDocument"]).encode())
        return cls(resource_name)


# Pseudo parameters of the stack's partition, where moto has those of "aws" for all.
from moto.cloudformation import parsing

resource_map_init = parsing.ResourceMap.__init__


def init(self, *args, **kwargs):
    resource_map_init(self, *args, **kwargs)
    partition = get_partition(self._region_name)
    self._parsed_resources["AWS::Partition"] = partition
    self._parsed_resources["AWS::URLSuffix"] = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"


parsing.ResourceMap.__init__ = init


# moto enforces the policy of a bucket, without its conditions: each Deny would be for all.
from moto.iam import access_control

is_action_permitted = access_control.IAMPolicyStatement.is_action_permitted


def permitted(self, *args, **kwargs):
    if "Condition" in self._statement:
        return access_control.PermissionResult.NEUTRAL
    return is_action_permitted(self, *args, **kwargs)


access_control.IAMPolicyStatement.is_action_permitted = permitted
