# -*- encoding: utf-8 -*-
# stub: aws-sdk-core 3.78.0 ruby lib

Gem::Specification.new do |s|
  s.name = "aws-sdk-core".freeze
  s.version = "3.78.0"

  s.required_rubygems_version = Gem::Requirement.new(">= 0".freeze) if s.respond_to? :required_rubygems_version=
  s.require_paths = ["lib".freeze]
  s.authors = ["Amazon Web Services".freeze]
  s.date = "2019-11-20"
  s.description = "Provides API clients for AWS.".freeze
  s.executables = []
  s.homepage = "http://github.com/aws/aws-sdk-ruby".freeze
  s.licenses = ["Apache-2.0".freeze]
  s.summary = "AWS SDK for Ruby - Core".freeze
  s.installed_by_version = "3.1.6" if s.respond_to? :installed_by_version

  if s.respond_to? :specification_version then
    s.specification_version = 4
  end

  if s.respond_to? :add_runtime_dependency then
    s.add_runtime_dependency(%q<jmespath>.freeze, ["~> 1.0"])
    s.add_runtime_dependency(%q<aws-partitions>.freeze, ["~> 1.0"])
  end
end
